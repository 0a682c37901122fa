//! Names by pattern.

/// Whether `name` matches `pattern`, in which `*` stands for any text, dots included, and `?` for any one character.
///
/// ```
/// use cupola_nn::optim::matches;
/// assert!(matches("layers.*.bias", "layers.3.attn.bias"));
/// assert!(matches("*norm?.weight", "layers.0.norm1.weight"));
/// assert!(!matches("bias", "head.bias"));
/// ```
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last star, and how much of the name it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((at, swallowed)) = star {
            star = Some((at, swallowed + 1));
            p = at + 1;
            n = swallowed + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_go_back_when_the_rest_does_not_fit() {
        assert!(matches("*a*b", "xaxbab"));
        assert!(matches("*", ""));
        assert!(matches("a**b", "ab"));
        assert!(!matches("a?b", "ab"));
        assert!(!matches("*ab", "abc"));
        assert!(!matches("", "a"));
    }
}
