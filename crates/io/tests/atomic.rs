//! Files and folders are replaced whole or not at all.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use cupola_io::{Error, atomic};

#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("stopped by the test")]
    Here,
    #[error(transparent)]
    Io(#[from] Error),
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_keeps_its_old_contents_until_the_new_ones_are_whole() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("weights");
    atomic::write_bytes(&path, b"old").expect("writable");
    let error = atomic::write_file(&path, |file| {
        file.write_all(&[7; 1 << 20]).expect("writable");
        assert_eq!(fs::read(&path).expect("still there"), b"old");
        Err(Stop::Here)
    });
    assert!(matches!(error, Err(Stop::Here)), "{error:?}");
    let panic =
        catch_unwind(AssertUnwindSafe(|| atomic::write_file(&path, |_| -> Result<(), Error> { panic!("halfway") })));
    assert!(panic.is_err());
    assert_eq!(fs::read(&path).expect("still there"), b"old");
    assert_eq!(names(dir.path()), ["weights"]);
    atomic::write_bytes(&path, b"new").expect("writable");
    assert_eq!(fs::read(&path).expect("just written"), b"new");
    assert_eq!(names(dir.path()), ["weights"]);
}

#[test]
fn a_file_that_cannot_be_put_in_place_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let target = dir.path().join("occupied");
    fs::create_dir_all(target.join("child")).expect("writable");
    let error = atomic::write_bytes(&target, b"x").expect_err("a folder is in the way");
    assert!(matches!(&error, Error::Io { path, .. } if *path == target), "{error}");
    assert_eq!(names(dir.path()), ["occupied"]);
    let missing = dir.path().join("no/such/folder/file");
    assert!(atomic::write_bytes(&missing, b"x").is_err());
    assert!(atomic::write_bytes(dir.path().join(".."), b"x").is_err());
}

#[cfg(unix)]
#[test]
fn permissions_survive_a_replacement() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("secret");
    atomic::write_bytes(&path, b"old").expect("writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
    atomic::write_bytes(&path, b"new").expect("writable");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
}

fn fill(dir: &Path, text: &str) -> Result<(), Stop> {
    fs::create_dir(dir.join("training")).expect("writable");
    fs::write(dir.join("model"), text).expect("writable");
    fs::write(dir.join("training/state"), text).expect("writable");
    Ok(())
}

#[test]
fn a_folder_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("checkpoint");
    atomic::write_dir(&path, |new| fill(new, "first")).expect("writable");
    fs::write(path.join("only in the first"), "").expect("writable");
    let stopped = atomic::write_dir(&path, |new| {
        fill(new, "half")?;
        assert_eq!(fs::read(path.join("model")).expect("still there"), b"first");
        Err(Stop::Here)
    });
    assert!(stopped.is_err());
    assert_eq!(fs::read(path.join("training/state")).expect("still there"), b"first");
    assert_eq!(names(dir.path()), ["checkpoint"]);
    atomic::write_dir(&path, |new| fill(new, "second")).expect("writable");
    assert_eq!(names(&path), ["model", "training"]);
    assert_eq!(fs::read(path.join("training/state")).expect("written"), b"second");
    assert_eq!(names(dir.path()), ["checkpoint"]);
}

#[test]
fn an_interrupted_replacement_of_a_folder_is_finished_later() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (path, aside) = (dir.path().join("checkpoint"), dir.path().join(".checkpoint.previous"));
    atomic::recover_dir(&path).expect("nothing to do");
    // A crash between the two renames: the old folder is set aside, the new one has no name yet.
    atomic::write_dir(&path, |new| fill(new, "old")).expect("writable");
    fs::rename(&path, &aside).expect("our own folder");
    atomic::recover_dir(&path).expect("the old folder is there");
    assert_eq!(fs::read(path.join("model")).expect("put back"), b"old");
    // A crash before the old folder was deleted.
    fs::create_dir(&aside).expect("writable");
    fs::write(aside.join("model"), "older").expect("writable");
    atomic::recover_dir(&path).expect("both are there");
    assert_eq!(fs::read(path.join("model")).expect("kept"), b"old");
    assert_eq!(names(dir.path()), ["checkpoint"]);
}
