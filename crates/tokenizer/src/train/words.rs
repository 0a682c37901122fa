//! The pieces of a text and how often each occurs.

use super::Progress;
use crate::error::{Error, Result};
use crate::hash::FastMap;
use crate::model::Scratch;
use crate::normalize::Normalizer;
use crate::normalize::aligned::Aligned;
use crate::split::PreTokenizer;
use crate::tokenizer::batch::parallel;
use cupola_regex::BorderMemory;
use std::path::Path;
use std::sync::Mutex;

/// Texts are read in blocks of about this many bytes, so that memory does not grow with the corpus.
const BLOCK: usize = 16 << 20;

/// How often a piece occurs before other pieces, and how often as the last one of a text.
pub(super) type Count = [u64; 2];

/// Counts pieces. The result is in order of the pieces, so that equal texts give equal lists.
pub(super) fn count<T: AsRef<str> + Sync + Send>(
    texts: impl IntoIterator<Item = T>,
    normalizers: &[Normalizer],
    pre_tokenizer: &PreTokenizer,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<(String, u64)>> {
    let counted = count_by_place(texts, normalizers, pre_tokenizer, progress)?;
    Ok(counted.into_iter().map(|(word, n)| (word, n[0] + n[1])).collect())
}

/// [`count`] with those that end a text apart.
pub(super) fn count_by_place<T: AsRef<str> + Sync + Send>(
    texts: impl IntoIterator<Item = T>,
    normalizers: &[Normalizer],
    pre_tokenizer: &PreTokenizer,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<(String, Count)>> {
    let mut total: FastMap<String, Count> = FastMap::default();
    let mut texts = texts.into_iter();
    let mut bytes = 0u64;
    loop {
        let mut block = Vec::new();
        let mut size = 0;
        while size < BLOCK
            && let Some(text) = texts.next()
        {
            size += text.as_ref().len();
            block.push(text);
        }
        if block.is_empty() {
            break;
        }
        count_block(&block, size, normalizers, pre_tokenizer, &mut total)?;
        bytes += size as u64;
        progress(Progress::Reading { bytes });
    }
    let mut words: Vec<(String, Count)> = total.into_iter().collect();
    words.sort_unstable();
    Ok(words)
}

fn count_block<T: AsRef<str> + Sync>(
    block: &[T],
    size: usize,
    normalizers: &[Normalizer],
    pre_tokenizer: &PreTokenizer,
    total: &mut FastMap<String, Count>,
) -> Result<()> {
    // A few thousand pieces of work at most, each with a map of its own from a shared store.
    let per_job = block.len().div_ceil(64);
    let jobs = block.len().div_ceil(per_job);
    let maps: Mutex<Vec<FastMap<String, Count>>> = Mutex::default();
    let take = || maps.lock().ok().and_then(|mut m| m.pop()).unwrap_or_default();
    parallel(jobs, size, None, |job| {
        let mut map = take();
        let (mut scratch, mut memory) = (Scratch::default(), BorderMemory::default());
        let end = ((job + 1) * per_job).min(block.len());
        for text in &block[job * per_job..end] {
            let mut aligned = Aligned::new(text.as_ref(), 0, false);
            for step in normalizers {
                step.apply(&mut aligned)?;
            }
            let mut add = |piece: &str, last: bool| {
                let n = match map.get_mut(piece) {
                    Some(n) => n,
                    None => map.entry(piece.to_string()).or_default(),
                };
                n[usize::from(last)] += 1;
            };
            if let Some(pattern) = pre_tokenizer.single_pattern() {
                let text = &*aligned.text;
                let mut at = 0;
                pattern.for_borders(text, &mut memory, |base, ends| {
                    for &end in ends {
                        let end = base + end as usize;
                        add(&text[at..end], end == text.len());
                        at = end;
                    }
                    Ok(true)
                })?;
            } else {
                pre_tokenizer.cut(&mut aligned, true, &mut scratch)?;
                let count = scratch.pieces.len();
                for (i, &(start, end)) in scratch.pieces.iter().enumerate() {
                    add(&aligned.text[start as usize..end as usize], i + 1 == count);
                }
            }
        }
        if let Ok(mut maps) = maps.lock() {
            maps.push(map);
        }
        Ok(())
    })?;
    let maps = maps.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for map in maps {
        if total.is_empty() {
            *total = map;
            continue;
        }
        for (piece, n) in map {
            let all = total.entry(piece).or_default();
            *all = [all[0] + n[0], all[1] + n[1]];
        }
    }
    Ok(())
}

/// Whole files as text.
pub(super) fn read_files<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<String>> {
    paths.iter().map(|p| std::fs::read_to_string(p).map_err(|e| Error::file(p.as_ref(), e))).collect()
}
