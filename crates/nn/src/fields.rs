//! The walk through plain values, which have nothing to show, and through containers.

use std::marker::PhantomData;

use cupola_core::{DType, Shape};
use cupola_tensor::ops::linear::Activation;
use cupola_tensor::ops::{ConvConfig, Nonlinearity, Window};

use crate::buffer::ModuleBuffer;
use crate::module::{Field, Module, Path, Visitor, VisitorMut};
use crate::param::Param;

impl Field for Param {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        visitor.param(path, self);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        visitor.param(path, self);
    }
}

impl Field for ModuleBuffer {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        visitor.buffer(path, self);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        visitor.buffer(path, self);
    }
}

/// Fields that a walk passes by.
macro_rules! plain {
    ($($type:ty),* $(,)?) => {$(
        impl Field for $type {
            fn visit<'a>(&'a self, _path: &mut Path, _visitor: &mut dyn Visitor<'a>) {}
            fn visit_mut<'a>(&'a mut self, _path: &mut Path, _visitor: &mut dyn VisitorMut<'a>) {}
        }
    )*};
}

plain!(
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    bool,
    char,
    String,
    &'static str,
    (),
    DType,
    Shape,
);

plain!(Activation, Nonlinearity, Window<1>, Window<2>, ConvConfig<1>, ConvConfig<2>);

impl<T: ?Sized> Field for PhantomData<T> {
    fn visit<'a>(&'a self, _path: &mut Path, _visitor: &mut dyn Visitor<'a>) {}
    fn visit_mut<'a>(&'a mut self, _path: &mut Path, _visitor: &mut dyn VisitorMut<'a>) {}
}

impl<T: Field + ?Sized> Field for Box<T> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        (**self).visit(path, visitor);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        (**self).visit_mut(path, visitor);
    }
}

impl<T: Module + ?Sized> Module for Box<T> {}

/// So that several models can be handed over as one: `scope.finish(&mut (&mut generator, &mut discriminator))`.
impl<T: Field + ?Sized> Field for &mut T {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        (**self).visit(path, visitor);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        (**self).visit_mut(path, visitor);
    }
}

impl<T: Module + ?Sized> Module for &mut T {}

impl<T: Field> Field for Option<T> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        self.iter().for_each(|inner| inner.visit(path, visitor));
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        self.iter_mut().for_each(|inner| inner.visit_mut(path, visitor));
    }
}

impl<T: Module> Module for Option<T> {}

/// Elements are called `0`, `1`, ...
impl<T: Field> Field for [T] {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        for (index, inner) in self.iter().enumerate() {
            path.push(&index.to_string());
            inner.visit(path, visitor);
            path.pop();
        }
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        for (index, inner) in self.iter_mut().enumerate() {
            path.push(&index.to_string());
            inner.visit_mut(path, visitor);
            path.pop();
        }
    }
}

impl<T: Module> Module for [T] {}

impl<T: Field> Field for Vec<T> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        self.as_slice().visit(path, visitor);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        self.as_mut_slice().visit_mut(path, visitor);
    }
}

impl<T: Module> Module for Vec<T> {}

impl<T: Field, const N: usize> Field for [T; N] {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        self.as_slice().visit(path, visitor);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        self.as_mut_slice().visit_mut(path, visitor);
    }
}

impl<T: Module, const N: usize> Module for [T; N] {}

macro_rules! tuples {
    ($(($($type:ident $index:tt),+))*) => {$(
        /// Elements are called `0`, `1`, ...
        impl<$($type: Field),+> Field for ($($type,)+) {
            fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
                $(
                    path.push(stringify!($index));
                    self.$index.visit(path, visitor);
                    path.pop();
                )+
            }

            fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
                $(
                    path.push(stringify!($index));
                    self.$index.visit_mut(path, visitor);
                    path.pop();
                )+
            }
        }

        impl<$($type: Module),+> Module for ($($type,)+) {}
    )*};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}
