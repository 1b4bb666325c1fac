//! Files that commands read and write. What is written may hold secrets: mode 0600, complete or absent, never half.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::fault::Fault;

/// Reads all of `file`, up to `bytes_max`; `None` when there is no such file.
pub(crate) fn read(file: &Path, bytes_max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault("read", file, &error)),
    };
    read_bounded(opened, bytes_max, &file.display().to_string()).map(Some)
}

/// The same as text.
pub(crate) fn read_text(file: &Path, bytes_max: u64) -> Result<Option<Zeroizing<String>>, Fault> {
    read(file, bytes_max)?.map(|bytes| text(&bytes, &file.display().to_string())).transpose()
}

/// Reads to the end, up to `bytes_max`; `name` is for errors.
pub(crate) fn read_bounded(source: impl io::Read, bytes_max: u64, name: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut bytes = Zeroizing::new(Vec::new());
    source.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| Fault::local(format!("read {name}: {error}")))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Fault::local(format!("{name} is larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// UTF-8, or an error that names the source and shows nothing of it.
pub(crate) fn text(bytes: &[u8], name: &str) -> Result<Zeroizing<String>, Fault> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => Err(Fault::local(format!("{name} is no UTF-8 text (byte {})", error.valid_up_to()))),
    }
}

/// Replaces `file` as a whole, readable by its owner only.
pub(crate) fn replace(file: &Path, content: &[u8]) -> Result<(), Fault> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = (|| {
        // Made with mode 0600.
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        temporary.write_all(content)?;
        temporary.as_file().sync_all()?;
        temporary.persist(file).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    })();
    written.map_err(|error| fault("write", file, &error))
}

/// Writes a file that must not be there yet. `mode`: who may read it.
pub(crate) fn create(file: &Path, content: &[u8], mode: u32) -> Result<(), Fault> {
    let written = (|| {
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
        opened.write_all(content)?;
        opened.sync_all()
    })();
    written.map_err(|error: io::Error| {
        let fault = fault("write", file, &error);
        if error.kind() == io::ErrorKind::AlreadyExists {
            fault.cure("nothing is overwritten: move it away, or use another folder")
        } else {
            fault
        }
    })
}

/// Makes a folder and those above it, for its owner only; it may be there already.
pub(crate) fn create_folder(folder: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| fault("make the folder", folder, &error))
}

/// The act, the file, and the system's reason.
pub(crate) fn fault(act: &str, file: &Path, error: &io::Error) -> Fault {
    Fault::local(format!("{act} {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        replace(&file, b"one").unwrap();
        replace(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        create(&file, b"one", 0o600).unwrap();
        assert!(create(&file, b"two", 0o600).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"one");
    }

    #[test]
    fn reading_is_bounded() {
        assert!(read_bounded(&b"12345"[..], 4, "it").is_err());
        assert_eq!(&read_bounded(&b"1234"[..], 4, "it").unwrap()[..], b"1234");
        assert!(read(Path::new("/nonexistent/file"), 4).unwrap().is_none());
    }
}
