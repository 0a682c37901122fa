//! The known word that a misspelt one is nearest to.

/// The candidate with the fewest insertions, deletions and changes of letters to `word`, if these are few.
///
/// ```
/// use cupola_models::spec::nearest;
/// assert_eq!(nearest("hiden_size", ["vocab_size", "hidden_size"]), Some("hidden_size"));
/// assert_eq!(nearest("colour", ["vocab_size", "hidden_size"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    let scored = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    scored.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// A message of serde about an unknown word, with the nearest of the words it lists.
pub(crate) fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    let suggestion = quoted.next().filter(|_| unknown).and_then(|word| nearest(word, quoted));
    match suggestion {
        Some(word) => format!("{message}; did you mean `{word}`?"),
        None => message.to_string(),
    }
}
