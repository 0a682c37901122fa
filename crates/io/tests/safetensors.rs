//! The safetensors reader and writer as a user meets them.

use std::collections::BTreeMap;
use std::fs;

use cupola_core::{Buffer, DType, Shape, bf16, f16};
use cupola_io::safetensors::{self, Metadata, SafeTensors, Shards, TensorBytes};
use cupola_io::{Error, Result};
use proptest::prelude::*;

/// A file with this header and `data` bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 1);
    file
}

fn read(bytes: Vec<u8>) -> Result<SafeTensors> {
    SafeTensors::from_bytes("m.safetensors", bytes)
}

/// One tensor of every dtype.
fn one_of_each() -> Vec<(String, Buffer)> {
    let half = [f16::from_f32(0.5), f16::from_f32(-2.0)];
    let brain = [bf16::from_f32(3.0), bf16::from_f32(-0.125)];
    let buffers = [
        Buffer::from_slice(&[1.5f64, -0.0]),
        Buffer::from_slice(&[f32::NAN, 7.0]),
        Buffer::from_slice(&brain),
        Buffer::from_slice(&half),
        Buffer::from_slice(&[i64::MIN, 3]),
        Buffer::from_slice(&[-5i32, 5]),
        Buffer::from_slice(&[u32::MAX, 0]),
        Buffer::from_slice(&[-7i8, 7]),
        Buffer::from_slice(&[200u8, 1]),
        Buffer::from_slice(&[true, false]),
    ];
    buffers.into_iter().map(|b| (format!("of.{}", b.dtype()), b)).collect()
}

fn views<'a>(tensors: &'a [(String, Buffer)]) -> Vec<TensorBytes<'a>> {
    let view = |(name, buffer): &'a (String, Buffer)| TensorBytes::new(name, [buffer.len()], buffer);
    tensors.iter().map(view).collect()
}

#[test]
fn every_dtype_round_trips_through_a_mapped_file_without_a_copy() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("all.safetensors");
    let tensors = one_of_each();
    safetensors::save(&path, &views(&tensors), &Metadata::new()).expect("a valid file");
    let file = SafeTensors::open(&path).expect("the file just written");
    assert_eq!(file.len(), DType::ALL.len());
    assert!(file.names().is_sorted());
    for (name, buffer) in &tensors {
        let tensor = file.tensor(name).expect("written above");
        assert_eq!((tensor.dtype(), tensor.shape()), (buffer.dtype(), Shape::new(&[2])));
        let shared = tensor.buffer().expect("valid elements");
        assert_eq!(shared.bytes(), buffer.bytes(), "{name}");
        assert_eq!(shared.bytes().as_ptr(), tensor.bytes().as_ptr(), "{name} was copied");
        assert!(!shared.is_writable());
    }
    let kept = file.tensor("of.f64").and_then(|t| t.buffer()).expect("valid elements");
    drop(file);
    fs::remove_file(&path).expect("the mapping does not hold the name");
    assert_eq!(kept.as_slice::<f64>(), [1.5, -0.0]);
}

#[test]
fn an_unpadded_header_is_read_by_copying() {
    // 8 + 59 bytes before the data: no float is aligned.
    let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}     "#;
    assert_eq!(header.len() % 4, 3);
    let mut bytes = file(header, 0);
    bytes.extend(2.5f32.to_le_bytes());
    let tensors = read(bytes).expect("padding is a courtesy");
    let buffer = tensors.tensor("w").and_then(|t| t.buffer()).expect("valid elements");
    assert_eq!(buffer.as_slice::<f32>(), [2.5]);
    assert!(buffer.is_writable(), "the copy is ours");
}

/// What the format's reference (the Python package safetensors 0.8) wrote for the same tensors, put down here as text and numbers.
#[test]
fn written_bytes_are_those_of_the_reference() {
    let a = Buffer::from_slice(&[1u8, 2, 3]);
    let b = Buffer::from_slice(&[1.0f32]);
    let c = Buffer::from_slice(&[-1i64]);
    let metadata: Metadata = [("format".into(), "pt".into())].into();
    let tensors = [
        TensorBytes::new("a", [3], &a),
        TensorBytes::new("b\"é", [1, 1], &b),
        TensorBytes::new("c", [] as [usize; 0], &c),
    ];
    let written = safetensors::to_bytes(&tensors, &metadata).expect("valid tensors");
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"c":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#,
        r#""b\"é":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]},"a":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}}"#,
    );
    let padding = " ".repeat(header.len().next_multiple_of(8) - header.len());
    let mut expected = file(&format!("{header}{padding}"), 0);
    expected.extend([255; 8]);
    expected.extend([0, 0, 128, 63, 1, 2, 3]);
    assert_eq!(written, expected);
    let mut reversed = tensors.to_vec();
    reversed.reverse();
    assert_eq!(safetensors::to_bytes(&reversed, &metadata).expect("as above"), expected);
    assert_eq!(read(written).expect("own file").metadata().collect::<Vec<_>>(), [("format", "pt")]);
}

#[test]
fn damaged_files_are_refused_with_the_file_the_tensor_and_the_reason() {
    let two = |first: &str, second: &str| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
        )
    };
    let one = |entry: &str| file(&format!(r#"{{"w":{entry}}}"#), 4);
    let max = u64::MAX;
    let mut long = file(r#"{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, 4);
    long[..8].copy_from_slice(&max.to_le_bytes());
    let mut bad_text = file(r#"{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, 4);
    bad_text[10] = 0xFF;
    let deep = format!(r#"{{"w":{}"#, "[".repeat(200_000));
    let deep_metadata = format!(r#"{{"__metadata__":{{"k":{}"#, r#"{"k":"#.repeat(200_000));
    let cases: Vec<(Vec<u8>, Option<&str>, &str)> = vec![
        (vec![], None, "the file is 0 bytes long, expected at least 8"),
        (vec![1, 2, 3], None, "the file is 3 bytes long"),
        (long, None, "the header's length is 18446744073709551615, expected at most 57, what follows in the file"),
        (8u64.to_le_bytes().to_vec(), None, "the header's length is 8, expected at most 0"),
        (0u64.to_le_bytes().to_vec(), None, "the header is empty"),
        (bad_text, None, "the header is not UTF-8 after byte 2"),
        (file(" {}", 0), None, "the header is begun by ' '"),
        (file("{", 0), None, "the header is EOF"),
        (file("{}x", 0), None, "trailing characters"),
        (file("{}", 3), None, "the data is 3 bytes long, expected 0 by the header"),
        (
            file(&two("[0,4]", "[2,6]"), 6),
            Some("b"),
            "tensor `b` begins at byte 2 of the data, inside tensor `a`, expected 4",
        ),
        (file(&two("[0,4]", "[0,4]"), 4), Some("b"), "inside tensor `a`"),
        (file(&two("[0,4]", "[5,9]"), 9), Some("b"), "its start is byte 5, expected byte 4"),
        (file(&two("[1,5]", "[5,9]"), 9), Some("a"), "its start is byte 1, expected byte 0"),
        (file(&two("[0,4]", "[4,8]"), 7), Some("b"), "the end of its data is 8, expected at most 7"),
        (file(&two("[0,4]", "[4,8]"), 9), None, "the data is 9 bytes long, expected 8"),
        (file(&two("[0,4]", "[4,8]").replace("\"b\"", "\"a\""), 8), Some("a"), "tensor `a` occurs twice"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[4,0]}"#), Some("w"), "data_offsets is [4, 0]"),
        (
            one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551615]}"#),
            Some("w"),
            "the end of its data",
        ),
        (
            one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551616]}"#),
            Some("w"),
            "its entry in the header",
        ),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,-4]}"#), Some("w"), "its entry in the header"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4.0]}"#), Some("w"), "its entry in the header"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4,8]}"#), Some("w"), "its entry in the header"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0]}"#), Some("w"), "its entry in the header"),
        (
            one(r#"{"dtype":"F32","shape":[4],"data_offsets":[0,4]}"#),
            Some("w"),
            "its data is 4 bytes long, expected 16 bytes for f32 [4]",
        ),
        (
            one(r#"{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,4]}"#),
            Some("w"),
            "its shape is [4611686018427387904, 4]",
        ),
        (one(r#"{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,4]}"#), Some("w"), "its shape is"),
        (one(r#"{"dtype":"U8","shape":[0,18446744073709551615],"data_offsets":[0,0]}"#), Some("w"), "its shape is"),
        (
            one(r#"{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4]}"#),
            Some("w"),
            "a shape of at most 8 dimensions",
        ),
        (
            one(r#"{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}"#),
            Some("w"),
            "is of type F8_E4M3, expected one of F64",
        ),
        (one(r#"{"dtype":"U64","shape":[],"data_offsets":[0,4]}"#), Some("w"), "is of type U64"),
        (one(r#"{"dtype":7,"shape":[4],"data_offsets":[0,4]}"#), Some("w"), "its entry in the header"),
        (one(r#"{"shape":[4],"data_offsets":[0,4]}"#), Some("w"), "without dtype"),
        (one(r#"{"dtype":"U8","data_offsets":[0,4]}"#), Some("w"), "without shape"),
        (one(r#"{"dtype":"U8","shape":[4]}"#), Some("w"), "without data_offsets"),
        (one(r#"{"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]}"#), Some("w"), "with a member twice"),
        (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4],"extra":1}"#), Some("w"), "with `extra`"),
        (one("null"), Some("w"), "its entry in the header"),
        (file(&deep, 0), Some("w"), "its entry in the header"),
        (file(&deep_metadata, 0), None, "__metadata__ is"),
        (file(r#"{"__metadata__":{"k":1}}"#, 0), None, "__metadata__ is invalid type"),
        (file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), Some("__metadata__"), "occurs twice"),
    ];
    for (bytes, tensor, reason) in cases {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(90)]).into_owned();
        let Err(error) = read(bytes) else { panic!("accepted: {start}") };
        let message = error.to_string();
        assert!(message.starts_with("m.safetensors: ") && message.contains(reason), "{start}: {message}");
        assert_eq!(error.tensor_name(), tensor, "{start}: {message}");
        assert!(message.len() < 500, "{} bytes of message", message.len());
    }
}

#[test]
fn a_bool_that_is_neither_0_nor_1_is_refused_when_it_is_read() {
    let mut bytes = file(r#"{"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#, 2);
    *bytes.last_mut().expect("it has data") = 2;
    let error = read(bytes).and_then(|f| f.tensor("mask")?.buffer()).expect_err("2 is no bool");
    assert_eq!(
        error.to_string(),
        "m.safetensors: tensor `mask`: the data is 2 at element 1, expected 0 or 1 in a bool"
    );
}

#[test]
fn a_missing_tensor_is_named_with_its_nearest_neighbour() {
    let tensors = one_of_each();
    let bytes = safetensors::to_bytes(&views(&tensors), &Metadata::new()).expect("valid tensors");
    let error = read(bytes).and_then(|f| f.tensor("of_f64").map(|t| t.shape())).expect_err("another name");
    assert_eq!(error.to_string(), "m.safetensors: there is no tensor `of_f64`; the nearest name is `of.f64`");
}

#[test]
fn tensors_that_do_not_fit_their_shape_are_not_written() {
    let refuse = |tensors: &[TensorBytes<'_>]| {
        safetensors::to_bytes(tensors, &Metadata::new()).expect_err("invalid").to_string()
    };
    let good = TensorBytes { name: "w", dtype: DType::F32, shape: [2].into(), bytes: vec![0; 8].into() };
    let short = TensorBytes { bytes: vec![0; 7].into(), ..good.clone() };
    assert_eq!(refuse(&[short]), "<memory>: tensor `w`: its data is 7 bytes long, expected 8 bytes for f32 [2]");
    assert_eq!(refuse(&[good.clone(), good.clone()]), "<memory>: tensor `w` occurs twice, expected every name once");
    assert!(refuse(&[TensorBytes { name: "__metadata__", ..good }]).contains("reserved"));
}

#[test]
fn a_model_in_shards_reads_like_one_file() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let tensors = one_of_each();
    // 8 bytes a file: the two wide tensors are larger and get a file each.
    safetensors::save_shards(dir.path(), &views(&tensors), &Metadata::new(), 8).expect("valid tensors");
    let model = Shards::open(dir.path()).expect("the model just written");
    assert_eq!(model.files().len(), 7);
    assert_eq!(model.len(), tensors.len());
    for (name, buffer) in &tensors {
        let read = model.tensor(name).and_then(|t| t.buffer()).expect("written above");
        assert_eq!(read.bytes(), buffer.bytes());
    }
    assert!(model.iter().map(|t| t.name().to_owned()).is_sorted());
    assert!(matches!(model.tensor("x"), Err(Error::Missing { .. })));

    let single = tempfile::tempdir().expect("temporary folder");
    safetensors::save_shards(single.path(), &views(&tensors), &Metadata::new(), 1 << 20).expect("valid tensors");
    assert!(single.path().join(safetensors::SINGLE_NAME).exists());
    let one = Shards::open(single.path()).expect("the model just written");
    assert_eq!((one.files().len(), one.len()), (1, tensors.len()));
    assert_eq!(Shards::open(one.path()).expect("by file").len(), tensors.len());
}

#[test]
fn an_index_that_disagrees_with_its_files_is_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let tensors = one_of_each();
    safetensors::save(dir.path().join("a.safetensors"), &views(&tensors[..2]), &Metadata::new()).expect("valid");
    let open = |pairs: &str| {
        let index = dir.path().join(safetensors::INDEX_NAME);
        fs::write(index, format!(r#"{{"metadata":{{"total_size":32,"x":[{{}}]}},"weight_map":{{{pairs}}}}}"#))
            .expect("writable");
        Shards::open(dir.path()).map(|model| model.len())
    };
    assert_eq!(open(r#""of.f64":"a.safetensors","of.f32":"a.safetensors""#).expect("they agree"), 2);
    let refused = |pairs: &str, tensor: Option<&str>, reason: &str| {
        let error = open(pairs).expect_err(pairs);
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.tensor_name(), tensor, "{error}");
    };
    refused(r#""of.f64":"a.safetensors""#, Some("of.f32"), "its entry in the index is missing, expected for this file");
    let both = r#""of.f64":"a.safetensors","of.f32":"a.safetensors","#;
    refused(&format!(r#"{both}"z":"a.safetensors""#), Some("z"), "there is no tensor `z`");
    refused(&format!(r#"{both}"of.f64":"a.safetensors""#), None, "tensor `of.f64` occurs twice");
    refused(r#""w":"b.safetensors""#, None, "b.safetensors: cannot open");
    for elsewhere in ["../a.safetensors", "/etc/passwd", "x/../../a", "..", "", ".", "c:x", "x\\\\y"] {
        refused(&format!(r#""w":"{elsewhere}""#), Some("w"), "expected a plain file name");
    }
    refused(r#""w":7"#, None, "the index is invalid type");
}

fn any_tensors() -> impl Strategy<Value = BTreeMap<String, (usize, Vec<usize>)>> {
    let dims = prop::collection::vec(0usize..5, 0..5);
    prop::collection::btree_map("\\PC{0,12}", (0..DType::ALL.len(), dims), 0..12)
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_written_again_alike(
        tensors in any_tensors(),
        metadata in prop::collection::btree_map(".{0,8}", ".{0,20}", 0..4),
    ) {
        let mut seed = 1u8;
        let tensors: Vec<TensorBytes<'_>> = tensors
            .iter()
            .map(|(name, (dtype, dims))| {
                let (dtype, shape) = (DType::ALL[*dtype], Shape::new(dims));
                let mut next = || {
                    seed = seed.wrapping_mul(29).wrapping_add(17);
                    if dtype == DType::Bool { seed >> 7 } else { seed }
                };
                let bytes: Vec<u8> = (0..shape.numel() * dtype.size()).map(|_| next()).collect();
                TensorBytes { name, dtype, shape, bytes: bytes.into() }
            })
            .collect();
        let written = safetensors::to_bytes(&tensors, &metadata).expect("valid tensors");
        let file = read(written.clone()).expect("own file");
        prop_assert_eq!(file.len(), tensors.len());
        for tensor in &tensors {
            let found = file.tensor(tensor.name).expect("written above");
            prop_assert_eq!((found.dtype(), found.shape()), (tensor.dtype, tensor.shape));
            let buffer = found.buffer().expect("valid elements");
            prop_assert_eq!(buffer.bytes(), &*tensor.bytes);
        }
        let read_metadata: Metadata = file.metadata().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        prop_assert_eq!(&read_metadata, &metadata);
        for (key, value) in &metadata {
            prop_assert_eq!(file.metadata_value(key), Some(value.as_str()));
        }
        let buffers: Vec<Buffer> = file.iter().map(|t| t.buffer().expect("valid elements")).collect();
        let again: Vec<TensorBytes<'_>> =
            file.iter().zip(&buffers).map(|(t, b)| TensorBytes::new(t.name(), t.shape(), b)).collect();
        prop_assert_eq!(safetensors::to_bytes(&again, &read_metadata).expect("valid tensors"), written);
    }
}
