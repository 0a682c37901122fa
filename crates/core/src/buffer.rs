//! Aligned memory of elements of one dtype.

use std::any::{Any, TypeId};
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crate::alloc::{self, ALIGNMENT, Block, Placement};
use crate::dtype::{DType, Element};
use crate::pool::{Parts, parallel_for};

enum Storage {
    /// From the cache, and returned to it.
    Cached(Block),
    /// Somebody else's memory (a mapped file, an array of another library), kept alive by its owner and never written.
    Foreign { _owner: Arc<dyn Any + Send + Sync> },
}

/// What a packed form was made from and for; see [`Buffer::packed`].
pub type PackKey = [usize; 5];

struct Packed {
    kind: TypeId,
    key: PackKey,
    form: Arc<dyn Any + Send + Sync>,
}

/// A run of elements of one dtype. Shared through `Arc`; written only by a sole owner.
///
/// A buffer also keeps forms of its contents that were rearranged for a kernel (packed weights): see [`Buffer::packed`].
pub struct Buffer {
    ptr: NonNull<u8>,
    len: usize,
    dtype: DType,
    storage: Storage,
    packed: Mutex<Vec<Packed>>,
}

// SAFETY: the memory is owned by the buffer or kept alive by an owner that is `Send + Sync`; shared access is read-only and
// writes take `&mut self`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

/// Why a buffer could not be made from foreign bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// The address does not suit the dtype.
    #[error("data at byte {address} is not aligned for {dtype}")]
    Misaligned {
        /// Address modulo 64.
        address: usize,
        /// The dtype asked for.
        dtype: DType,
    },
    /// The bytes are no whole number of elements.
    #[error("{bytes} bytes hold no whole number of {dtype} elements")]
    Length {
        /// Bytes given.
        bytes: usize,
        /// The dtype asked for.
        dtype: DType,
    },
    /// A bool that is neither 0 nor 1.
    #[error("element {index} of a bool buffer is {value}, expected 0 or 1")]
    NotBool {
        /// Position of the byte.
        index: usize,
        /// Its value.
        value: u8,
    },
}

impl Buffer {
    /// A buffer of `len` elements with arbitrary contents (`false` for bool). For results that will be written in full.
    ///
    /// # Panics
    /// When the system has no memory left.
    pub fn uninit(dtype: DType, len: usize, placement: Placement) -> Self {
        let bytes = len.checked_mul(dtype.size()).expect("shapes are bounded so that sizes in bytes do not overflow");
        let block = alloc::acquire(bytes, placement);
        let mut buffer = Self::from_block(block, len, dtype);
        if dtype == DType::Bool {
            // Stale bytes may be anything, and only 0 and 1 are bools.
            buffer.bytes_mut().fill(0);
        }
        buffer
    }

    /// A buffer of `len` zeros.
    pub fn zeroed(dtype: DType, len: usize, placement: Placement) -> Self {
        let mut buffer = Self::uninit(dtype, len, placement);
        buffer.clear();
        buffer
    }

    /// Makes all elements zeros (`false` for bool).
    pub fn clear(&mut self) {
        // What one thread fills in well under a millisecond.
        const PIECE: usize = 1 << 20;
        let bytes = self.bytes_mut();
        if bytes.len() <= 2 * PIECE {
            return bytes.fill(0);
        }
        let parts = Parts::new(bytes, PIECE);
        parallel_for(parts.len(), |index| parts.take(index).1.fill(0));
    }

    /// A buffer with a copy of `data`.
    pub fn from_slice<T: Element>(data: &[T]) -> Self {
        let mut buffer = Self::uninit(T::DTYPE, data.len(), Placement::Passing);
        buffer.as_mut_slice::<T>().copy_from_slice(data);
        buffer
    }

    /// A buffer with a copy of `bytes`, read as little-endian elements of `dtype`.
    ///
    /// # Errors
    /// When the length does not fit or a bool is neither 0 nor 1.
    pub fn from_le_bytes(dtype: DType, bytes: &[u8]) -> Result<Self, BufferError> {
        check_bytes(dtype, bytes)?;
        let mut buffer = Self::uninit(dtype, bytes.len() / dtype.size(), Placement::Passing);
        buffer.bytes_mut().copy_from_slice(bytes);
        if cfg!(target_endian = "big") {
            buffer.bytes_mut().chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
        }
        Ok(buffer)
    }

    /// A read-only buffer over `bytes` of `owner`, without a copy.
    ///
    /// `bytes` picks the slice out of the owner; it must return the same slice as long as the owner lives, which it does for
    /// anything that does not change behind a shared reference.
    ///
    /// # Errors
    /// When address or length do not suit the dtype, or a bool is neither 0 nor 1.
    pub fn foreign<O: Any + Send + Sync>(
        dtype: DType,
        owner: Arc<O>,
        bytes: impl for<'a> FnOnce(&'a O) -> &'a [u8],
    ) -> Result<Self, BufferError> {
        let slice = bytes(&owner);
        check_bytes(dtype, slice)?;
        let address = slice.as_ptr() as usize;
        if !address.is_multiple_of(dtype.size()) {
            return Err(BufferError::Misaligned { address: address % ALIGNMENT, dtype });
        }
        let ptr = NonNull::from(slice).cast();
        let len = slice.len() / dtype.size();
        Ok(Self { ptr, len, dtype, storage: Storage::Foreign { _owner: owner }, packed: Mutex::default() })
    }

    fn from_block(block: Block, len: usize, dtype: DType) -> Self {
        Self { ptr: block.ptr, len, dtype, storage: Storage::Cached(block), packed: Mutex::default() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether the memory may be written by a sole owner; foreign memory may not.
    pub fn is_writable(&self) -> bool {
        matches!(self.storage, Storage::Cached(_))
    }

    /// The elements.
    ///
    /// # Panics
    /// When `T` is not the buffer's dtype.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(self.dtype, T::DTYPE, "a buffer of {} was read as {}", self.dtype, T::DTYPE);
        // SAFETY: `ptr` is aligned for T and addresses `len` initialised elements (cache memory comes zeroed from the system
        // and is only ever overwritten with elements; foreign memory is `u8`s); every bit pattern is a T, except for bool,
        // whose bytes are checked or cleared on entry. No `&mut` exists while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), self.len) }
    }

    /// The elements, for writing. Drops all packed forms.
    ///
    /// # Panics
    /// When `T` is not the buffer's dtype, or the memory is foreign.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(self.dtype, T::DTYPE, "a buffer of {} was written as {}", self.dtype, T::DTYPE);
        assert!(self.is_writable(), "foreign memory is read-only");
        self.drop_packed();
        // SAFETY: as in `as_slice`; `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), self.len) }
    }

    /// The elements as bytes in the machine's order.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: elements have no padding, so their bytes are initialised.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len * self.dtype.size()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.drop_packed();
        // SAFETY: as in `bytes`; callers are constructors, which write valid elements into cache memory.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len * self.dtype.size()) }
    }

    /// The form of type `P` that was made of this buffer for `key`, made now by `make` when there is none yet. Any mutable
    /// access drops all forms. `key` tells apart what the form depends on beyond the contents: offset, sizes, orientation.
    pub fn packed<P: Any + Send + Sync>(&self, key: PackKey, make: impl FnOnce() -> P) -> Arc<P> {
        let mut slots = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = TypeId::of::<P>();
        let found = slots.iter().find(|slot| slot.kind == kind && slot.key == key);
        if let Some(form) = found.and_then(|slot| slot.form.clone().downcast::<P>().ok()) {
            return form;
        }
        let form = Arc::new(make());
        slots.push(Packed { kind, key, form: form.clone() });
        form
    }

    /// Drops all packed forms, giving their memory back.
    pub fn drop_packed(&mut self) {
        self.packed.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn check_bytes(dtype: DType, bytes: &[u8]) -> Result<(), BufferError> {
    if !bytes.len().is_multiple_of(dtype.size()) {
        return Err(BufferError::Length { bytes: bytes.len(), dtype });
    }
    if dtype == DType::Bool
        && let Some(index) = bytes.iter().position(|&b| b > 1)
    {
        return Err(BufferError::NotBool { index, value: bytes[index] });
    }
    Ok(())
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Storage::Cached(block) = &self.storage {
            alloc::release(block);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {})", self.len, self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_round_trip_and_are_aligned() {
        for len in [0, 1, 31, 40_000] {
            let data: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let buffer = Buffer::from_slice(&data);
            assert_eq!(buffer.as_slice::<f32>(), data);
            assert!((buffer.bytes().as_ptr() as usize).is_multiple_of(ALIGNMENT));
        }
    }

    #[test]
    fn recycled_memory_never_shows_an_invalid_bool() {
        drop(Buffer::from_slice(&[0xFFu8; 100]));
        let buffer = Buffer::uninit(DType::Bool, 100, Placement::Passing);
        assert_eq!(buffer.as_slice::<bool>(), [false; 100]);
        let error = Buffer::from_le_bytes(DType::Bool, &[1, 0, 7]).expect_err("7 is no bool");
        assert_eq!(error, BufferError::NotBool { index: 2, value: 7 });
    }

    #[test]
    fn foreign_memory_is_shared_and_checked() {
        let owner: Arc<Vec<f32>> = Arc::new(vec![1.0, 2.0, 3.0]);
        let buffer = Buffer::foreign(DType::F32, owner.clone(), |o| bytemuck::cast_slice(&o[1..])).expect("aligned");
        assert_eq!(buffer.as_slice::<f32>(), [2.0, 3.0]);
        assert_eq!(buffer.as_slice::<f32>().as_ptr(), owner[1..].as_ptr());
        assert!(!buffer.is_writable());
        let odd = Buffer::foreign(DType::F32, owner.clone(), |o| &bytemuck::cast_slice(o.as_slice())[1..9]);
        assert_eq!(
            odd.expect_err("odd address"),
            BufferError::Misaligned { address: (owner.as_ptr() as usize + 1) % ALIGNMENT, dtype: DType::F32 }
        );
    }

    #[test]
    fn packed_forms_live_until_the_contents_change() {
        let mut buffer = Buffer::from_slice(&[1.0f32, 2.0]);
        let sum = |b: &Buffer, key| *b.packed(key, || b.as_slice::<f32>().iter().sum::<f32>());
        assert_eq!(sum(&buffer, [0; 5]), 3.0);
        let again = buffer.packed::<f32>([0; 5], || unreachable!("the form is there already"));
        assert_eq!(*again, 3.0);
        assert_eq!(*buffer.packed([1; 5], || 9.0f32), 9.0);
        buffer.as_mut_slice::<f32>()[0] = 5.0;
        assert_eq!(sum(&buffer, [0; 5]), 7.0);
    }

    #[test]
    #[should_panic(expected = "a buffer of f32 was read as i64")]
    fn reading_as_another_dtype_panics() {
        Buffer::from_slice(&[1.0f32]).as_slice::<i64>();
    }
}
