//! One body, one machine function per instruction-set tier.
//!
//! A kernel is written once, as a generic body over a [`Tier`]; [`kernel!`](crate::kernel) stamps it for every tier with
//! `#[target_feature]` and picks one at run time. Bodies are plain loops without branches, which the compiler turns into
//! vector code of the stamp's width; a body that is called from a body is `#[inline(always)]`, so that it is compiled with
//! the features of its stamp.

/// What a body knows about the tier it is compiled for.
///
/// Only [`Tier::FMA`] may change a result: sums run over a fixed number of lanes whatever the width of the registers.
pub trait Tier: Copy + Send + Sync + 'static {
    /// Whether a fused multiply-add is one instruction. Where it is not, `mul_add` would be a call of the mathematical
    /// library, so products and sums are rounded separately.
    const FMA: bool;
    /// Numbers of 32 bits in a register. Results do not depend on it.
    const LANES: usize;
}

/// The tier of [`Isa::Scalar`](crate::Isa::Scalar).
#[derive(Clone, Copy, Debug)]
pub struct Portable;
/// The tier of [`Isa::Avx2`](crate::Isa::Avx2).
#[derive(Clone, Copy, Debug)]
pub struct Avx2;
/// The tier of [`Isa::Avx512`](crate::Isa::Avx512).
#[derive(Clone, Copy, Debug)]
pub struct Avx512;

impl Tier for Portable {
    const FMA: bool = false;
    const LANES: usize = 4;
}
impl Tier for Avx2 {
    const FMA: bool = true;
    const LANES: usize = 8;
}
impl Tier for Avx512 {
    const FMA: bool = true;
    const LANES: usize = 16;
}

/// Defines a function that runs its body compiled for the tier given as first argument.
///
/// The generics of the function stand in square brackets, one trait bound each, and the name of the body's own tier comes
/// first:
///
/// ```ignore
/// kernel! {
///     /// y = x^2
///     pub(crate) fn squares[I; T: Number](x: &[T], y: &mut [T]) {
///         for (y, x) in y.iter_mut().zip(x) { ... }
///     }
/// }
/// squares(isa(), x, y);
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! kernel {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident[$tier:ident; $($generic:ident : $bound:path),* $(,)?]($($arg:ident : $type:ty),* $(,)?)
        $(-> $result:ty)? $body:block
    )*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        #[inline]
        $vis fn $name<$($generic: $bound),*>(isa: $crate::Isa, $($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, clippy::extra_unused_type_parameters)]
            fn body<$tier: $crate::tier::Tier, $($generic: $bound),*>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$($generic: $bound),*>($($arg: $type),*) $(-> $result)? {
                body::<$crate::tier::Avx512, $($generic),*>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$($generic: $bound),*>($($arg: $type),*) $(-> $result)? {
                body::<$crate::tier::Avx2, $($generic),*>($($arg),*)
            }

            match isa {
                // SAFETY: `Isa` values above `Scalar` come from detection on this machine (`isa()`, `Isa::available`,
                // `with_isa` clamps), so the features are there.
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx512 => unsafe { avx512::<$($generic),*>($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::Isa::Avx2 => unsafe { avx2::<$($generic),*>($($arg),*) },
                _ => body::<$crate::tier::Portable, $($generic),*>($($arg),*),
            }
        }
    )*};
}

/// Compiles generic functions in this crate for a list of element types.
///
/// A generic function is otherwise compiled in the crate that calls it, with the optimisation of that crate: in a
/// development build the kernels would be slow wherever they are used. The trait is the list of types; the functions
/// forward to its methods.
#[macro_export]
#[doc(hidden)]
macro_rules! instantiate {
    ($(#[$meta:meta])* $trait:ident: $bound:path, for [$($type:ty),* $(,)?] $functions:tt) => {
        $crate::instantiate! { @trait [$(#[$meta])*] $trait, $bound, $functions }
        $( $crate::instantiate! { @impl $trait, $type, $functions } )*
    };
    (@trait [$(#[$trait_meta:meta])*] $trait:ident, $bound:path, { $(
        $(#[$meta:meta])*
        fn $name:ident($($arg:ident : $arg_type:ty),* $(,)?) $(-> $result:ty)? = $body:path;
    )* }) => {
        $(#[$trait_meta])*
        pub trait $trait<T: $bound>: $bound {
            $(
                #[doc(hidden)]
                #[track_caller]
                #[allow(clippy::too_many_arguments)]
                fn $name($($arg: $arg_type),*) $(-> $result)?;
            )*
        }
        $(
            $(#[$meta])*
            #[track_caller]
            #[inline]
            #[allow(clippy::too_many_arguments)]
            pub fn $name<T: $trait<T> + $bound>($($arg: $arg_type),*) $(-> $result)? {
                <T as $trait<T>>::$name($($arg),*)
            }
        )*
    };
    (@impl $trait:ident, $type:ty, { $(
        $(#[$meta:meta])*
        fn $name:ident($($arg:ident : $arg_type:ty),* $(,)?) $(-> $result:ty)? = $body:path;
    )* }) => {
        const _: () = {
            type T = $type;
            impl $trait<T> for T {
                $(
                    #[track_caller]
                    fn $name($($arg: $arg_type),*) $(-> $result)? {
                        $body($($arg),*)
                    }
                )*
            }
        };
    };
}
