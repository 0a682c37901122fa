//! Many texts on several threads.

use super::encoding::pad_batch;
use super::{DecodeOptions, EncodeOptions, Encoding, Input, Tokenizer};
use crate::error::Result;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Below this many bytes of text, starting a thread costs more than it saves.
const PARALLEL_BYTES: usize = 32 << 10;

/// `work(i)` for all `i < n`, in order of `i`, on at most `threads` threads, or as many as the machine has. The first
/// error in that order wins.
pub(crate) fn parallel<T: Send>(
    n: usize,
    bytes: usize,
    threads: Option<usize>,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let most = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |t| t.get()));
    let threads = most.min(n);
    if threads < 2 || bytes < PARALLEL_BYTES {
        return (0..n).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    // Small enough that threads end together, large enough that the counter is rarely touched.
    let chunk = (n / (threads * 8)).max(1);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(chunk, Ordering::Relaxed);
            if start >= n {
                return done;
            }
            for i in start..(start + chunk).min(n) {
                done.push((i, work(i)));
            }
        }
    };
    let mut all: Vec<(usize, Result<T>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut all = worker();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

impl Tokenizer {
    /// The ids of many texts, on several threads when there is enough to do.
    ///
    /// # Errors
    /// The first error, in the order of the texts.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T], options: &EncodeOptions) -> Result<Vec<Vec<u32>>> {
        let bytes = texts.iter().map(|t| t.as_ref().len()).sum();
        parallel(texts.len(), bytes, options.threads, |i| self.encode_with(texts[i].as_ref(), options))
    }

    /// The encodings of many inputs, padded to one length when the options ask for padding.
    ///
    /// # Errors
    /// The first error, in the order of the inputs.
    pub fn encoding_batch(&self, inputs: &[Input<'_>], options: &EncodeOptions) -> Result<Vec<Encoding>> {
        let length = |input: &Input<'_>| match input {
            Input::Single(a) => a.len(),
            Input::Pair(a, b) => a.len() + b.len(),
        };
        let bytes = inputs.iter().map(length).sum();
        let mut encodings =
            parallel(inputs.len(), bytes, options.threads, |i| self.encoding_unpadded(inputs[i], options))?;
        if let Some(padding) = &options.padding {
            pad_batch(&mut encodings, padding);
        }
        Ok(encodings)
    }

    /// The numbers of ids of many texts.
    ///
    /// # Errors
    /// The first error, in the order of the texts.
    pub fn count_batch<T: AsRef<str> + Sync>(&self, texts: &[T], options: &EncodeOptions) -> Result<Vec<usize>> {
        let bytes = texts.iter().map(|t| t.as_ref().len()).sum();
        parallel(texts.len(), bytes, options.threads, |i| self.count_with(texts[i].as_ref(), options))
    }

    /// The texts of many sequences.
    ///
    /// # Errors
    /// The first error, in the order of the sequences.
    pub fn decode_batch<T: AsRef<[u32]> + Sync>(&self, sequences: &[T]) -> Result<Vec<String>> {
        parallel(sequences.len(), ids_size(sequences), None, |i| self.decode(sequences[i].as_ref()))
    }

    /// The bytes of many sequences, on at most `threads` threads, or as many as the machine has.
    ///
    /// # Errors
    /// The first error, in the order of the sequences.
    pub fn decode_bytes_batch<T: AsRef<[u32]> + Sync>(
        &self,
        sequences: &[T],
        options: DecodeOptions,
        threads: Option<usize>,
    ) -> Result<Vec<Vec<u8>>> {
        let decode = |i: usize| self.decode_bytes_with(sequences[i].as_ref(), options);
        parallel(sequences.len(), ids_size(sequences), threads, decode)
    }
}

/// The bytes that sequences will have, roughly.
fn ids_size<T: AsRef<[u32]>>(sequences: &[T]) -> usize {
    sequences.iter().map(|s| s.as_ref().len() * 4).sum()
}
