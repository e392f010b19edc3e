//! Symbol floors: the newest symbol versions that released files may need.

use std::fmt;

/// Version of a symbol, such as `GLIBC_2.17`: a name and numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Name before the last `_`, such as `GLIBC`.
    pub family: String,
    /// Numbers behind it, such as 2 and 17.
    pub numbers: Vec<u32>,
}

impl Version {
    /// Reads a version. `None`: what is behind the last `_` is not numbers, as in
    /// `GLIBC_PRIVATE`.
    pub fn parse(text: &str) -> Option<Version> {
        let (family, numbers) = text.rsplit_once('_')?;
        let numbers: Result<_, _> = numbers.split('.').map(str::parse).collect();
        Some(Version {
            family: family.to_owned(),
            numbers: numbers.ok()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.numbers.iter().map(u32::to_string).collect();
        write!(f, "{}_{}", self.family, numbers.join("."))
    }
}

/// Newest versions that released files may need, one of each family. A symbol of another family is
/// above the floor.
#[derive(Clone, Copy, Debug)]
pub struct Floor(&'static [(&'static str, &'static [u32])]);

/// Floor of the release: glibc of CentOS 7, and the first libstdc++ with the `std::string` that
/// Mesos has been compiled with since g++ 5.
pub const RELEASE: Floor = Floor(&[
    ("GLIBC", &[2, 17]),
    ("GLIBCXX", &[3, 4, 21]),
    ("CXXABI", &[1, 3, 9]),
    ("GCC", &[4, 8]),
]);

impl Floor {
    /// Returns true if `version` is not newer than the floor.
    pub fn has(&self, version: &Version) -> bool {
        let newest = self.0.iter().find(|(family, _)| *family == version.family);
        newest.is_some_and(|(_, numbers)| version.numbers.as_slice() <= *numbers)
    }
}
