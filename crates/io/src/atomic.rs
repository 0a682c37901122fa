//! Files and folders that are replaced whole or not at all.
//!
//! New contents are written beside the target under a hidden name, synced to the disk, and renamed over the target; then the
//! folder's own entry is synced. A crash at any moment leaves the old contents or the new ones. On an error or a panic the
//! half-written copy is removed; after a crash it stays behind as `.NAME.PID-N.tmp` and may be deleted.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Replaces the file at `path` by what `write` writes. An existing file's permissions are kept; a symbolic link is replaced,
/// not followed.
///
/// # Errors
/// What `write` returns, or the system's refusal; the target is then as it was before.
///
/// ```
/// use std::io::Write;
/// let path = std::env::temp_dir().join("cupola-atomic-example");
/// cupola_io::atomic::write_file(&path, |file| {
///     file.write_all(b"whole").map_err(|source| cupola_io::Error::Io { path: path.clone(), action: "write", source })
/// })?;
/// # std::fs::remove_file(&path).expect("it was just written");
/// # Ok::<(), cupola_io::Error>(())
/// ```
pub fn write_file<E: From<Error>>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let path = path.as_ref();
    let beside = Beside::new(path)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside.path)
        .map_err(Error::io(&beside.path, "create"))?;
    let mut file = BufWriter::with_capacity(1 << 18, file);
    write(&mut file)?;
    file.flush().map_err(Error::io(path, "write"))?;
    let file = file.get_ref();
    if let Ok(old) = fs::symlink_metadata(path)
        && old.is_file()
    {
        file.set_permissions(old.permissions()).map_err(Error::io(&beside.path, "set the permissions of"))?;
    }
    file.sync_all().map_err(Error::io(path, "sync"))?;
    beside.rename_to(path)?;
    Ok(())
}

/// [`write_file`] with contents that are there already.
///
/// # Errors
/// As [`write_file`].
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    write_file(path, |file| file.write_all(bytes).map_err(Error::io(path, "write")))
}

/// Replaces the folder at `path` by one that `fill` fills; `fill` gets the path of an empty folder beside the target.
///
/// All files in it are synced before the rename. No system call replaces a folder that is not empty, so an old folder is first
/// renamed to `.NAME.previous`, and deleted after the new one has its place. A crash between the two renames leaves no `path` but the
/// complete old folder under that name; [`recover_dir`], which this function calls first, puts it back.
///
/// # Errors
/// What `fill` returns, or the system's refusal; the target is then as it was before.
pub fn write_dir<E: From<Error>>(path: impl AsRef<Path>, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let path = path.as_ref();
    recover_dir(path)?;
    let beside = Beside::new(path)?;
    fs::create_dir(&beside.path).map_err(Error::io(&beside.path, "create"))?;
    fill(&beside.path)?;
    sync_tree(&beside.path)?;
    let previous = previous(path)?;
    let replaces = fs::symlink_metadata(path).is_ok();
    if replaces {
        fs::rename(path, &previous).map_err(Error::io(path, "set aside"))?;
    }
    if let Err(error) = beside.rename_to(path) {
        if replaces {
            fs::rename(&previous, path).map_err(Error::io(&previous, "put back"))?;
        }
        return Err(error.into());
    }
    if replaces {
        remove(&previous).map_err(Error::io(&previous, "delete"))?;
    }
    Ok(())
}

/// Finishes a [`write_dir`] that a crash interrupted: puts the old folder back when there is no new one, deletes it when
/// there is. Does nothing when nothing was interrupted. Call it before reading a folder that `write_dir` writes.
///
/// # Errors
/// When the system refuses.
pub fn recover_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let previous = previous(path)?;
    if fs::symlink_metadata(&previous).is_err() {
        return Ok(());
    }
    if fs::symlink_metadata(path).is_ok() {
        return remove(&previous).map_err(Error::io(&previous, "delete"));
    }
    fs::rename(&previous, path).map_err(Error::io(&previous, "put back"))?;
    sync_dir(parent(path)).map_err(Error::io(path, "sync"))
}

fn previous(path: &Path) -> Result<PathBuf> {
    hidden(path, ".previous")
}

/// The path beside `path` whose name is that of `path` with a dot before and `suffix` after it.
fn hidden(path: &Path, suffix: &str) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a name");
        Error::io(path, "write")(source)
    })?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(suffix);
    Ok(path.with_file_name(hidden))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// A path beside the target; what is there is removed on drop unless it was renamed.
struct Beside {
    path: PathBuf,
    kept: bool,
}

impl Beside {
    fn new(target: &Path) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { path: hidden(target, &format!(".{}-{count}.tmp", std::process::id()))?, kept: false })
    }

    fn rename_to(mut self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).map_err(Error::io(target, "rename the new contents to"))?;
        self.kept = true;
        sync_dir(parent(target)).map_err(Error::io(target, "sync the folder of"))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: the error that brought us here is the one to report.
            let _ = remove(&self.path);
        }
    }
}

/// Makes a folder's list of names durable. Only Unix can open a folder to sync it; elsewhere the rename itself has to do.
fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let entry = entry.map_err(Error::io(dir, "list"))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io(&path, "inspect"))?;
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            // Windows syncs only what is open for writing.
            OpenOptions::new()
                .read(true)
                .write(cfg!(windows))
                .open(&path)
                .and_then(|file| file.sync_all())
                .map_err(Error::io(&path, "sync"))?;
        }
    }
    sync_dir(dir).map_err(Error::io(dir, "sync"))
}
