//! The NPY reader and writer as a user meets them.

use std::fs;

use cupola_core::{Buffer, DType, Shape, bf16, f16};
use cupola_io::Result;
use cupola_io::npy::{self, Npy, Order};
use proptest::prelude::*;

/// A file of the given version with this dictionary and data.
fn file(version: u8, dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    if version == 1 {
        file.extend((dictionary.len() as u16).to_le_bytes());
    } else {
        file.extend((dictionary.len() as u32).to_le_bytes());
    }
    file.extend(dictionary.as_bytes());
    file.extend(data);
    file
}

fn read(bytes: Vec<u8>) -> Result<Npy> {
    Npy::from_bytes("a.npy", bytes)
}

fn elements(array: &Npy) -> Vec<f32> {
    let buffer = array.buffer().expect("valid elements");
    let data = buffer.as_slice::<f32>();
    array.layout().positions().map(|at| data[at]).collect()
}

/// The bytes that `numpy.save` (NumPy 2.4) writes for `np.array([[1, 2, 3], [4, 5, 6]], np.float32)`.
#[test]
fn written_bytes_are_those_of_numpy() {
    let buffer = Buffer::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let mut text = String::from("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
    text += &" ".repeat(117 - text.len());
    text.push('\n');
    let mut expected = file(1, &text, &[]);
    assert_eq!(expected.len(), 128);
    (1..=6).for_each(|i| expected.extend((i as f32).to_le_bytes()));
    assert_eq!(npy::to_bytes([2, 3], Order::RowMajor, &buffer).expect("NumPy has f32"), expected);
}

#[test]
fn all_versions_and_orders_give_the_same_array() {
    let rows: Vec<f32> = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let columns = [1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0];
    for version in 1..=3 {
        for (fortran, data) in [("False", &rows[..]), ("True", &columns)] {
            for (endian, bytes) in [
                ('<', data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()),
                ('>', data.iter().flat_map(|x| x.to_be_bytes()).collect()),
            ] {
                let text = format!("{{'descr': '{endian}f4', 'fortran_order': {fortran}, 'shape': (2, 3), }}\n");
                let array = read(file(version, &text, &bytes)).expect("a valid file");
                assert_eq!((array.dtype(), array.layout().shape), (DType::F32, [2, 3].into()));
                assert_eq!(array.order() == Order::ColumnMajor, fortran == "True");
                assert_eq!(elements(&array), rows, "version {version}, {text}");
            }
        }
    }
}

#[test]
fn every_dtype_round_trips_in_both_byte_orders() {
    let half = [f16::from_f32(0.5), f16::from_f32(-2.0)];
    let buffers = [
        Buffer::from_slice(&[1.5f64, -0.0]),
        Buffer::from_slice(&[f32::NAN, 7.0]),
        Buffer::from_slice(&half),
        Buffer::from_slice(&[i64::MIN, 3]),
        Buffer::from_slice(&[-5i32, 5]),
        Buffer::from_slice(&[u32::MAX, 0]),
        Buffer::from_slice(&[-7i8, 7]),
        Buffer::from_slice(&[200u8, 1]),
        Buffer::from_slice(&[true, false]),
    ];
    let dir = tempfile::tempdir().expect("temporary folder");
    for buffer in &buffers {
        let path = dir.path().join(format!("{}.npy", buffer.dtype()));
        npy::save(&path, 2, Order::RowMajor, buffer).expect("NumPy has this dtype");
        let array = Npy::open(&path).expect("the file just written");
        let back = array.buffer().expect("valid elements");
        assert_eq!((back.dtype(), back.bytes()), (buffer.dtype(), buffer.bytes()));
        assert!(!back.is_writable(), "{}: the data are aligned, so nothing is copied", buffer.dtype());

        let mut swapped = fs::read(&path).expect("the file just written");
        let begin = swapped.len() - buffer.bytes().len();
        swapped[begin..].chunks_exact_mut(buffer.dtype().size()).for_each(<[u8]>::reverse);
        if let Some(order) = swapped.iter().position(|&byte| byte == b'<') {
            swapped[order] = b'>';
        }
        let back = read(swapped).and_then(|array| array.buffer()).expect("a valid file");
        assert_eq!((back.dtype(), back.bytes()), (buffer.dtype(), buffer.bytes()));
    }
    let brain = Buffer::from_slice(&[bf16::from_f32(3.0)]);
    let error = npy::save(dir.path().join("bf16.npy"), 1, Order::RowMajor, &brain).expect_err("NumPy has no bf16");
    assert!(error.to_string().ends_with("is bf16, expected a type that NumPy has, such as f32"), "{error}");
    assert!(!dir.path().join("bf16.npy").exists());
}

#[test]
fn damaged_files_are_refused_with_the_file_and_the_reason() {
    let good = "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }\n";
    let with = |from: &str, to: &str| {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        file(1, &text, &[0; 4])
    };
    read(file(1, good, &[0; 4])).expect("the cases below are wrong in one place each");
    let mut long = file(2, good, &[0; 4]);
    long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let cases = [
        (vec![], "the beginning is something else"),
        (b"\x93NUMP".to_vec(), "the beginning is something else"),
        (b"\x93NUMPY".to_vec(), "the file is 6 bytes long"),
        (b"\x93NUMPY\x02\x00\x01\x00".to_vec(), "the file is 10 bytes long"),
        (b"\x93NUMPY\x04\x00\x01\x00\x00\x00".to_vec(), "the version is 4.0"),
        (b"\x93NUMPY\x01\x01\x01\x00\x00\x00".to_vec(), "the version is 1.1"),
        (long, "the header's length is 4294967295, expected at most 62"),
        (file(1, good, &[0; 3]), "the length of the data is 3, expected 4 for u8 [4]"),
        (file(1, good, &[0; 5]), "the length of the data is 5"),
        (file(1, "", &[]), "expected a dictionary"),
        (file(3, "{'é': 1}", &[]), "the header is not ASCII"),
        (with("(4,)", "(4"), "expected a size that fits in memory"),
        (with("(4,), }", "(4}"), "expected a comma or the end of the tuple"),
        (with("(4,)", "(4,,)"), "expected a size that fits in memory"),
        (with("(4,)", "(-4,)"), "expected a size that fits in memory"),
        (with("(4,)", "(4.0,)"), "expected a comma or the end of the tuple"),
        (with("(4,)", "4"), "expected a tuple of sizes"),
        (with("(4,)", "(99999999999999999999,)"), "expected a size that fits in memory"),
        (with("(4,)", "(18446744073709551615, 2)"), "the shape is [18446744073709551615, 2]"),
        (with("(4,)", "(0, 18446744073709551615)"), "the shape is [0, 18446744073709551615]"),
        (with("(4,)", "(1, 1, 1, 1, 1, 1, 1, 1, 4)"), "more than 8 dimensions"),
        (with("|u1", "<u2"), "the type of the elements is '<u2'"),
        (with("|u1", "|O"), "the type of the elements is '|O'"),
        (with("|u1", "u1"), "the type of the elements is 'u1'"),
        (with("|u1", ""), "the type of the elements is ''"),
        (with("|u1", "|f4"), "the type of the elements is '|f4'"),
        (with("'|u1'", "[('x', '<f4')]"), "expected a plain type"),
        (with("False", "0"), "expected True or False"),
        (with("'shape'", "'shapes'"), "the header is 'shapes'"),
        (with("'shape'", "'descr'"), "expected a plain type"),
        (with("'descr': '|u1'", "'descr': '|u1', 'descr': '|u1'"), "the header is 'descr' twice"),
        (with("'shape': (4,), ", ""), "the header is no 'shape'"),
        (with("}", ""), "expected a key in quotes or the end of the dictionary"),
        (with("}", "} 1"), "expected nothing behind the dictionary"),
        (with("'descr'", "descr"), "expected a key in quotes"),
        (with("'descr':", "'descr'"), "expected a colon"),
        (file(1, &"(".repeat(60_000), &[]), "expected a dictionary"),
    ];
    for (bytes, reason) in cases {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(90)]).into_owned();
        let Err(error) = read(bytes) else { panic!("accepted: {start}") };
        let message = error.to_string();
        assert!(message.starts_with("a.npy: ") && message.contains(reason), "{start}: {message}");
        assert!(message.len() < 500, "{} bytes of message", message.len());
    }
    let mask = file(1, &good.replace("u1", "b1"), &[0, 1, 2, 0]);
    let error = read(mask).and_then(|array| array.buffer()).expect_err("2 is no bool");
    assert!(error.to_string().contains("the data is 2 at element 2, expected 0 or 1 in a bool"), "{error}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_alike(
        dims in prop::collection::vec(0usize..5, 0..=8),
        column_major in any::<bool>(),
    ) {
        let shape = Shape::new(&dims);
        let values: Vec<i64> = (0..shape.numel() as i64).map(|i| i * i - 7).collect();
        let buffer = Buffer::from_slice(&values);
        let order = if column_major { Order::ColumnMajor } else { Order::RowMajor };
        let bytes = npy::to_bytes(shape, order, &buffer).expect("NumPy has i64");
        let array = read(bytes).expect("own file");
        prop_assert_eq!(array.layout().shape, shape);
        prop_assert_eq!(array.order(), order);
        let back = array.buffer().expect("valid elements");
        prop_assert_eq!(back.as_slice::<i64>(), values);
        let mut positions: Vec<usize> = array.layout().positions().collect();
        positions.sort_unstable();
        prop_assert!(positions.into_iter().eq(0..shape.numel()));
    }
}
