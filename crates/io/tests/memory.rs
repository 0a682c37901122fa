//! What a hostile file makes us allocate is bounded by the bytes that are there, never by the sizes that it declares.
//!
//! One test in a binary of its own, because the allocator counts for the whole process.

use std::fs;
use std::path::Path;

use cupola_io::npy::Npy;
use cupola_io::safetensors::{SafeTensors, Shards};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The most heap that `open` held beyond what was there before.
fn peak<T>(open: impl FnOnce() -> T) -> (T, usize) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = open();
    (result, HEAP.peak_usage().saturating_sub(before))
}

fn with_header(path: &Path, declared: u64, header: &str, data: usize) -> usize {
    let mut file = declared.to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 0);
    fs::write(path, &file).expect("writable");
    file.len()
}

#[test]
fn memory_is_bounded_by_the_file() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("hostile");
    // Errors hold a path and short texts.
    let small = 8 << 10;

    let sizes = [
        r#"{"w":{"dtype":"F64","shape":[100000000000],"data_offsets":[0,800000000000]}}"#.to_owned(),
        r#"{"w":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#.to_owned(),
    ];
    for header in &sizes {
        with_header(&path, header.len() as u64, header, 8);
        let (result, bytes) = peak(|| SafeTensors::open(&path).map(|file| file.len()));
        assert!(result.is_err() && bytes < small, "{bytes} bytes");
    }
    for declared in [90_000_000, 100_000_000, 1 << 40, u64::MAX] {
        with_header(&path, declared, "{}", 8);
        let (result, bytes) = peak(|| SafeTensors::open(&path).map(|file| file.len()));
        assert!(result.is_err() && bytes < small, "{bytes} bytes");
    }

    // Files of the declared size, above the format's limit, of zeros that the disk need not store.
    for (name, start) in [("model.safetensors", 100_000_001u64), ("model.safetensors.index.json", 0)] {
        let large = dir.path().join(name);
        fs::write(&large, start.to_le_bytes()).expect("writable");
        let file = fs::OpenOptions::new().write(true).open(&large).expect("just written");
        file.set_len(200_000_000).expect("a file with a hole");
        let (result, bytes) = peak(|| Shards::open(&large).map(|model| model.len()));
        let message = result.expect_err("too long").to_string();
        assert!(message.contains("expected at most 100000000") && bytes < small, "{message}, {bytes} bytes");
        fs::remove_file(large).expect("just written");
    }

    // Lists, nesting and names without end cost no more than the text, and what is refused early costs nothing.
    let wide = format!(r#"{{"w":{{"dtype":"U8","shape":[{}1],"data_offsets":[0,1]}}}}"#, "1,".repeat(500_000));
    let deep = format!(r#"{{"w":{}"#, r#"{"shape":["#.repeat(100_000));
    let name = format!(r#"{{"{}":1}}"#, "n".repeat(1_000_000));
    for (header, bound) in [(&wide, small), (&deep, small), (&name, name.len() + small)] {
        with_header(&path, header.len() as u64, header, 1);
        let (result, bytes) = peak(|| SafeTensors::open(&path).map(|file| file.len()));
        assert!(result.is_err() && bytes < bound, "{bytes} bytes");
    }

    // Valid files of nothing but header: the smallest entries, many dimensions, metadata, escaped names.
    let join = |texts: Vec<String>| format!("{{{}}}", texts.join(","));
    let entry =
        |name: String, shape: &str| format!(r#""{name}":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,0]}}"#);
    let many = 20_000;
    let headers = [
        join((0..many).map(|i| entry(format!("{i:x}"), "0")).collect()),
        join((0..many).map(|i| entry(format!("{i:x}"), "0,1,1,1,1,1,1,1")).collect()),
        join((0..many).map(|i| entry(format!("\\u00{:02x}{i:x}", i % 128), "0")).collect()),
        format!(r#"{{"__metadata__":{}}}"#, join((0..many).map(|i| format!(r#""{i:x}":"""#)).collect())),
    ];
    for header in &headers {
        let length = with_header(&path, header.len() as u64, header, 0);
        let (file, bytes) = peak(|| SafeTensors::open(&path).expect("a valid file"));
        assert!(file.len() == many || file.metadata().count() == many);
        assert!(bytes < 2 * length, "{bytes} bytes for a header of {length}");
    }

    let numpy = |text: &str, declared: u32| {
        let mut file = b"\x93NUMPY\x02\x00".to_vec();
        file.extend(declared.to_le_bytes());
        file.extend(text.as_bytes());
        fs::write(&path, &file).expect("writable");
        peak(|| Npy::open(&path).map(|array| array.layout()))
    };
    let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }";
    for declared in [huge.len() as u32, 4_000_000_000] {
        let (result, bytes) = numpy(huge, declared);
        assert!(result.is_err() && bytes < small, "{bytes} bytes");
    }
    let long = format!("{{'descr': '<f8', 'shape': ({})", "1, ".repeat(300_000));
    let (result, bytes) = numpy(&long, long.len() as u32);
    assert!(result.is_err() && bytes < small, "{bytes} bytes");
}
