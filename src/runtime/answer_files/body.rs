//! A file in memory with the body of answers.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::dup3;

/// A file descriptor whose number stays the same, and whose file is replaced with each body. So
/// a driver that opens [`path`](BodyFile::path) late gets a later body or none, and never a file
/// of somebody else.
pub(super) struct BodyFile {
    file: OwnedFd,
    length: usize,
}

impl BodyFile {
    pub(super) fn new() -> io::Result<BodyFile> {
        Ok(BodyFile {
            file: empty_file()?,
            length: 0,
        })
    }

    /// Returns the path at which this process can open the file.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// Replaces the file by one with this body. Whoever has opened the earlier file keeps it.
    pub(super) fn replace(&mut self, body: &[u8]) -> io::Result<()> {
        let file = File::from(empty_file()?);
        file.write_all_at(body, 0)?;
        dup3(&file, &mut self.file, OFlag::O_CLOEXEC)?;
        self.length = body.len();
        Ok(())
    }

    /// Returns whether the file has no body.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns whether the file has this body.
    pub(super) fn has(&self, body: &Bytes) -> bool {
        const PIECE: usize = 64 << 10;
        let mut buffer = vec![0; PIECE.min(self.length)];
        let Ok(file) = self.file.try_clone().map(File::from) else {
            return false;
        };
        let is_same = |(index, piece): (usize, &[u8])| {
            let buffer = &mut buffer[..piece.len()];
            file.read_exact_at(buffer, (index * PIECE) as u64).is_ok() && buffer == piece
        };
        self.length == body.len() && body.chunks(PIECE).enumerate().all(is_same)
    }
}

fn empty_file() -> io::Result<OwnedFd> {
    Ok(memfd_create(c"overlay-answer", MFdFlags::MFD_CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_keeps_its_path() {
        let mut body = BodyFile::new().unwrap();
        let path = body.path();
        let read = || std::fs::read(&path).unwrap();
        assert_eq!(read(), b"");
        let long = Bytes::from(vec![7; 200_000]);
        body.replace(&long).unwrap();
        assert!(body.has(&long));
        for other in [
            long.slice(..199_999),
            Bytes::from([&long[..199_999], &[8]].concat()),
            Bytes::new(),
        ] {
            assert!(!body.has(&other));
        }
        let mut opened = File::open(&path).unwrap();
        body.replace(b"next").unwrap();
        assert_eq!((body.path(), read()), (path.clone(), b"next".to_vec()));
        let mut earlier = Vec::new();
        opened.read_to_end(&mut earlier).unwrap();
        assert_eq!(earlier, long);
    }
}
