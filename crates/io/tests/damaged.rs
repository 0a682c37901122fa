//! Every parser over thousands of damaged files: it must answer with a value or an error. The mutations are the same in
//! every run.

use cupola_core::{Buffer, Rng};
use cupola_io::npy::{self, Order};
use cupola_io::safetensors::{self, Metadata, TensorBytes};

/// Random numbers in sequence.
struct Dice {
    stream: Rng,
    next: u64,
}

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.next += 1;
        self.stream.below(self.next, bound as u64) as usize
    }
}

/// Texts that tend to break parsers of these formats.
const TOKENS: [&str; 24] = [
    "0",
    "-1",
    "1e3",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "null",
    "true",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    ",",
    ":",
    "(",
    ")",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "__metadata__",
    "F64",
    "BOOL",
];

/// One to four random damages.
fn damage(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut file = seed.to_vec();
    for _ in 0..=dice.below(4) {
        // Most of what matters is in the first bytes.
        let reach = if dice.below(4) > 0 { file.len().min(300) } else { file.len() };
        let at = dice.below(reach + 1).min(file.len());
        match dice.below(8) {
            0 => file.truncate(at),
            1 => file.extend(std::iter::repeat_n(dice.below(256) as u8, dice.below(20))),
            2 => {
                let token = TOKENS[dice.below(TOKENS.len())];
                file.splice(at..at, token.bytes());
            }
            3 => {
                // Another number in place of one.
                let digits = file[at..].iter().take_while(|b| b.is_ascii_digit()).count();
                let token = TOKENS[dice.below(6)];
                file.splice(at..at + digits, token.bytes());
            }
            4 => {
                let end = (at + dice.below(16)).min(file.len());
                let piece = file[at..end].to_vec();
                let to = dice.below(file.len() + 1);
                file.splice(to..to, piece);
            }
            5 => {
                let end = (at + dice.below(16)).min(file.len());
                file.drain(at..end);
            }
            6 if at < file.len() => file[at] ^= 1 << dice.below(8),
            _ if at < file.len() => file[at] = dice.below(256) as u8,
            _ => {}
        }
    }
    file
}

/// Runs `parse` over `rounds` damaged copies of the seeds. Both answers must occur: damages that are always noticed, or
/// never, would test little.
fn drive(name: &str, seeds: &[Vec<u8>], rounds: usize, parse: impl Fn(&[u8]) -> cupola_io::Result<usize>) {
    let mut dice = Dice { stream: Rng::seed(0x5AFE).named(name), next: 0 };
    for seed in seeds {
        parse(seed).expect("the seeds are valid");
    }
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..rounds {
        let file = damage(&seeds[round % seeds.len()], &mut dice);
        match parse(&file) {
            Ok(_) => accepted += 1,
            Err(error) => {
                let message = error.to_string();
                assert!(message.starts_with("fuzz: ") && message.len() < 1500, "{message}");
                refused += 1;
            }
        }
    }
    assert!(accepted > rounds / 100 && refused > rounds / 4, "{name}: {accepted} accepted, {refused} refused");
}

#[test]
fn damaged_safetensors() {
    let (floats, ints, bools) = ([0.5f32; 6], [-3i64, 9], [true, false, true]);
    let buffers = [Buffer::from_slice(&floats), Buffer::from_slice(&ints), Buffer::from_slice(&bools)];
    let tensors = [
        TensorBytes::new("h.0.weight", [2, 3], &buffers[0]),
        TensorBytes::new("steps", [2], &buffers[1]),
        TensorBytes::new("\"mask\"\n", [3, 1], &buffers[2]),
    ];
    let metadata: Metadata = [("format".into(), "pt".into()), ("k\u{e9}".into(), String::new())].into();
    let write = |tensors: &[_], metadata: &_| safetensors::to_bytes(tensors, metadata).expect("valid tensors");
    let seeds = [write(&tensors, &metadata), write(&tensors[..1], &Metadata::new()), write(&[], &Metadata::new())];
    drive("safetensors", &seeds, 30_000, safetensors::fuzz);
}

/// As above with a header length that always fits, so that the damages reach what lies behind it.
#[test]
fn damaged_safetensors_headers() {
    let headers = [
        r#"{"a":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}"#,
        r#"{"__metadata__":{"a":"b"},"x":{"shape":[0],"data_offsets":[0,0],"dtype":"I64"},"y":{"dtype":"BOOL","shape":[8],"data_offsets":[0,8]}}"#,
    ];
    drive("headers", &headers.map(|h| h.as_bytes().to_vec()), 30_000, |header| {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend([1; 8]);
        safetensors::fuzz(&file)
    });
}

#[test]
fn damaged_indices() {
    let seeds = [
        r#"{"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#,
        r#"{"weight_map":{}}"#,
    ];
    drive("index", &seeds.map(|s| s.as_bytes().to_vec()), 10_000, safetensors::fuzz_index);
}

#[test]
fn damaged_npy() {
    let (floats, bools) = ([0.5f64; 6], [true, false, true]);
    let write =
        |shape: &[usize], order, buffer: &Buffer| npy::to_bytes(shape, order, buffer).expect("NumPy has the dtype");
    let mut second = write(&[2, 3], Order::RowMajor, &Buffer::from_slice(&floats));
    // The same file as version 2, whose length has two more bytes.
    second[6] = 2;
    second.splice(10..10, [0, 0]);
    let seeds = [
        write(&[2, 3], Order::ColumnMajor, &Buffer::from_slice(&floats)),
        write(&[3], Order::RowMajor, &Buffer::from_slice(&bools)),
        write(&[], Order::RowMajor, &Buffer::from_slice(&[7u32])),
        second,
    ];
    drive("npy", &seeds, 40_000, npy::fuzz);
}
