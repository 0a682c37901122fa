//! Sums of products named by letters.
//!
//! A composite: operands are permuted and multiplied by [`Tensor::matmul`], so this file adds nothing to the registry.

use crate::tensor::Tensor;

/// A parsed subscript: the letters of each operand and of the result.
struct Subscripts {
    operands: Vec<Vec<char>>,
    result: Vec<char>,
}

#[track_caller]
fn parse(subscripts: &str, operands: usize) -> Subscripts {
    let compact: String = subscripts.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match compact.split_once("->") {
        Some((left, right)) => (left.to_string(), Some(right.to_string())),
        None => (compact, None),
    };
    let terms: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    assert!(terms.len() == operands, "einsum: {subscripts:?} names {} operands, {operands} were given", terms.len());
    let result: Vec<char> = match right {
        Some(right) => right.chars().collect(),
        None => {
            // As in NumPy: the letters that occur once, in alphabetical order.
            let all: Vec<char> = terms.iter().flatten().copied().collect();
            let mut once: Vec<char> =
                all.iter().copied().filter(|c| all.iter().filter(|d| *d == c).count() == 1).collect();
            once.sort_unstable();
            once
        }
    };
    let letters = terms.iter().chain([&result]);
    for term in letters {
        for (index, letter) in term.iter().enumerate() {
            assert!(letter.is_ascii_alphabetic(), "einsum: {letter:?} in {subscripts:?} is not a letter");
            assert!(!term[..index].contains(letter), "einsum: {letter} stands twice in one term of {subscripts:?}");
        }
    }
    for letter in &result {
        assert!(
            terms.iter().any(|term| term.contains(letter)),
            "einsum: {letter} of the result of {subscripts:?} is unknown"
        );
    }
    Subscripts { operands: terms, result }
}

/// The operand summed over the letters that nobody else needs, and the letters left.
fn reduce(x: &Tensor, letters: &[char], needed: impl Fn(char) -> bool) -> (Tensor, Vec<char>) {
    let mut x = x.clone();
    for axis in (0..letters.len()).rev() {
        if !needed(letters[axis]) {
            x = x.sum([axis as isize]);
        }
    }
    (x, letters.iter().copied().filter(|&c| needed(c)).collect())
}

/// `x`, whose dimensions are `letters`, with its dimensions in the order of `wanted`.
fn arrange(x: &Tensor, letters: &[char], wanted: &[char]) -> Tensor {
    let place = |c: &char| letters.iter().position(|d| d == c).expect("wanted is a permutation of the letters");
    x.permute(&wanted.iter().map(place).collect::<Vec<_>>())
}

impl Tensor {
    /// Einstein's summation over one or two operands: `"ij,jk->ik"` is a matrix product, `"bij->bj"` a sum, `"i,j->ij"` an
    /// outer product. Letters that are missing from the result are summed over; without `->` the result has the letters
    /// that occur once, in alphabetical order. A letter occurs at most once in a term.
    ///
    /// ```
    /// # use cupola_tensor::Tensor;
    /// let a = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(Tensor::einsum("ij,kj->ik", &[&a, &a]).to_vec::<f32>(), [5.0, 11.0, 11.0, 25.0]);
    /// ```
    ///
    /// # Panics
    /// When the subscripts cannot be read, do not fit the operands, or there are more than two of these.
    #[track_caller]
    pub fn einsum(subscripts: &str, operands: &[&Tensor]) -> Tensor {
        let Subscripts { operands: terms, result } = parse(subscripts, operands.len());
        for (x, term) in operands.iter().zip(&terms) {
            let count = term.len();
            assert!(
                x.rank() == count,
                "einsum: {subscripts:?} names {count} dimensions of an operand of shape {}",
                x.shape()
            );
        }
        match operands {
            [x] => {
                let (x, letters) = reduce(x, &terms[0], |c| result.contains(&c));
                arrange(&x, &letters, &result)
            }
            [a, b] => {
                for (axis, letter) in terms[0].iter().enumerate() {
                    let other = terms[1].iter().position(|c| c == letter);
                    let fits = other.is_none_or(|other| a.shape()[axis] == b.shape()[other]);
                    assert!(
                        fits,
                        "einsum: {letter} of {subscripts:?} differs in shapes {} and {}",
                        a.shape(),
                        b.shape()
                    );
                }
                contract(a, b, &terms, &result)
            }
            _ => panic!("einsum: {} operands were given, one or two are possible", operands.len()),
        }
    }
}

#[track_caller]
fn contract(a: &Tensor, b: &Tensor, terms: &[Vec<char>], result: &[char]) -> Tensor {
    let (a, left) = reduce(a, &terms[0], |c| terms[1].contains(&c) || result.contains(&c));
    let (b, right) = reduce(b, &terms[1], |c| terms[0].contains(&c) || result.contains(&c));
    let shared = |c: &char| left.contains(c) && right.contains(c);
    let batch: Vec<char> = result.iter().copied().filter(shared).collect();
    let summed: Vec<char> = left.iter().copied().filter(|c| shared(c) && !result.contains(c)).collect();
    let rows: Vec<char> = left.iter().copied().filter(|c| !right.contains(c)).collect();
    let cols: Vec<char> = right.iter().copied().filter(|c| !left.contains(c)).collect();
    let size = |c: &char| match left.iter().position(|d| d == c) {
        Some(axis) => a.shape()[axis],
        None => b.shape()[right.iter().position(|d| d == c).expect("every letter is in one of the operands")],
    };
    let sizes = |letters: &[char]| letters.iter().map(size).collect::<Vec<_>>();
    let product = |letters: &[char]| letters.iter().map(size).product::<usize>();
    let order = |first: &[char], second: &[char]| [batch.as_slice(), first, second].concat();
    let (many, m, k, n) = (product(&batch), product(&rows), product(&summed), product(&cols));
    let a = arrange(&a, &left, &order(&rows, &summed)).reshape([many, m, k]);
    let b = arrange(&b, &right, &order(&summed, &cols)).reshape([many, k, n]);
    let letters = order(&rows, &cols);
    arrange(&a.matmul(&b).reshape(sizes(&letters)), &letters, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Array, Case, uniform};

    #[test]
    fn contractions_of_all_kinds() {
        let two = |text: &'static str, a: &[usize], b: &[usize]| {
            Case::new(text, [uniform(a, 1), uniform(b, 2)], move |x| vec![Tensor::einsum(text, &[&x[0], &x[1]])])
        };
        let cases = [
            two("ij,jk->ik", &[3, 4], &[4, 5]).reference(|x| {
                vec![Array::from_fn(&[3, 5], |i| (0..4).map(|j| x[0].at(&[i[0], j]) * x[1].at(&[j, i[1]])).sum())]
            }),
            two("bhqd,bhkd->bhqk", &[2, 2, 3, 4], &[2, 2, 5, 4]).reference(|x| {
                let cell = |i: &[usize], d| x[0].at(&[i[0], i[1], i[2], d]) * x[1].at(&[i[0], i[1], i[3], d]);
                vec![Array::from_fn(&[2, 2, 3, 5], |i| (0..4).map(|d| cell(i, d)).sum())]
            }),
            two("i,j->ji", &[3], &[4])
                .reference(|x| vec![Array::from_fn(&[4, 3], |i| x[0].data[i[1]] * x[1].data[i[0]])]),
            two("ib,b->b", &[3, 4], &[4]).reference(|x| {
                vec![Array::from_fn(&[4], |i| (0..3).map(|k| x[0].at(&[k, i[0]]) * x[1].data[i[0]]).sum())]
            }),
            two("ij,ij", &[3, 4], &[3, 4])
                .reference(|x| vec![Array::new(&[], vec![x[0].data.iter().zip(&x[1].data).map(|(a, b)| a * b).sum()])]),
            Case::new("bij->jb", [uniform([2, 3, 4], 1)], |x| vec![Tensor::einsum("bij->jb", &[&x[0]])])
                .reference(|x| vec![Array::from_fn(&[4, 2], |i| (0..3).map(|k| x[0].at(&[i[1], k, i[0]])).sum())]),
        ];
        cases.iter().for_each(|case| case.check("einsum"));
    }

    #[test]
    #[should_panic(expected = "einsum: j of \"ij,jk->ik\" differs in shapes [2, 3] and [4, 5]")]
    fn sizes_that_differ_are_named() {
        Tensor::einsum("ij,jk->ik", &[&Tensor::zeros([2, 3]), &Tensor::zeros([4, 5])]);
    }
}
