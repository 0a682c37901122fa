//! From a dtype at run time to a Rust type at compile time.

/// Evaluates an expression with `$T` standing for the Rust type of a dtype.
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {{
        use cupola_core::{DType as D, bf16, f16};
        match $dtype {
            D::F64 => {
                type $T = f64;
                $body
            }
            D::F32 => {
                type $T = f32;
                $body
            }
            D::BF16 => {
                type $T = bf16;
                $body
            }
            D::F16 => {
                type $T = f16;
                $body
            }
            D::I64 => {
                type $T = i64;
                $body
            }
            D::I32 => {
                type $T = i32;
                $body
            }
            D::U32 => {
                type $T = u32;
                $body
            }
            D::I8 => {
                type $T = i8;
                $body
            }
            D::U8 => {
                type $T = u8;
                $body
            }
            D::Bool => {
                type $T = bool;
                $body
            }
            other => unreachable!("dtype {other} has no Rust type"),
        }
    }};
}

/// Like `with_element`, for floating-point dtypes; others panic with the operation's name.
macro_rules! with_float {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {{
        use cupola_core::{DType as D, bf16, f16};
        match $dtype {
            D::F64 => {
                type $T = f64;
                $body
            }
            D::F32 => {
                type $T = f32;
                $body
            }
            D::BF16 => {
                type $T = bf16;
                $body
            }
            D::F16 => {
                type $T = f16;
                $body
            }
            other => panic!("{}: dtype is {other}, expected a floating-point type", $op),
        }
    }};
}

/// Like `with_element`, for numbers: bool panics with the operation's name.
macro_rules! with_number {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {{
        use cupola_core::{DType as D, bf16, f16};
        match $dtype {
            D::F64 => {
                type $T = f64;
                $body
            }
            D::F32 => {
                type $T = f32;
                $body
            }
            D::BF16 => {
                type $T = bf16;
                $body
            }
            D::F16 => {
                type $T = f16;
                $body
            }
            D::I64 => {
                type $T = i64;
                $body
            }
            D::I32 => {
                type $T = i32;
                $body
            }
            D::U32 => {
                type $T = u32;
                $body
            }
            D::I8 => {
                type $T = i8;
                $body
            }
            D::U8 => {
                type $T = u8;
                $body
            }
            other => panic!("{}: dtype is {other}, expected numbers", $op),
        }
    }};
}

/// Like `with_element`, for integers; others panic with the operation's name.
macro_rules! with_integer {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {{
        use cupola_core::DType as D;
        match $dtype {
            D::I64 => {
                type $T = i64;
                $body
            }
            D::I32 => {
                type $T = i32;
                $body
            }
            D::U32 => {
                type $T = u32;
                $body
            }
            D::I8 => {
                type $T = i8;
                $body
            }
            D::U8 => {
                type $T = u8;
                $body
            }
            other => panic!("{}: dtype is {other}, expected integers", $op),
        }
    }};
}

pub(crate) use {with_element, with_float, with_integer, with_number};
