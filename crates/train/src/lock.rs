//! One trainer for a run's folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// The file's name.
const NAME: &str = ".lock";

/// A run's folder that belongs to this process as long as the value lives. The system gives the lock back when the process
/// ends, however it ends, so that none is ever left behind.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the folder, which must be there.
    ///
    /// # Errors
    /// When another process has it, named with its host, or the system refuses.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(Error::io(&path, "open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // What the owner wrote is only for the message.
                let _ = file.read_to_string(&mut owner);
                let owner = owner.trim();
                let owner = if owner.is_empty() { "another process" } else { owner };
                return Err(Error::Refused(format!("{}: the run is in use by {owner}", folder.display())));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(&path, "lock")(error)),
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = host.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
        let text = format!("process {} on {}\n", std::process::id(), host.as_deref().unwrap_or("this host").trim());
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(text.as_bytes())
        };
        write(&mut file).map_err(Error::io(&path, "write"))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The system would do it anyway when the file is closed.
        let _ = self.file.unlock();
    }
}
