//! Conversion of arguments of the C ABI to values.

use std::mem::{MaybeUninit, offset_of};
use std::net::{Ipv4Addr, SocketAddr};
use std::{ptr, slice};

use overlay_core::Upid;
use overlay_core::protocol::limits;

use super::{MoBytes, MoPair, MoRequest, MoResult};

/// Borrows the bytes for the duration of the call.
///
/// # Safety
/// `bytes.ptr` is NULL or points to `bytes.len` bytes that do not change during
/// the call.
pub(super) unsafe fn bytes<'a>(bytes: MoBytes) -> Result<&'a [u8], MoResult> {
    match (bytes.ptr.is_null(), bytes.len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(MoResult::Null),
        // No object is larger than isize::MAX, and a slice must not be.
        (false, len) if len > isize::MAX as usize => Err(MoResult::Invalid),
        // SAFETY: guaranteed by the caller.
        (false, len) => Ok(unsafe { slice::from_raw_parts(bytes.ptr, len) }),
    }
}

/// Copies text from the network or an operator. Invalid UTF-8 is replaced.
///
/// # Safety
/// Same as [`bytes()`].
pub(super) unsafe fn text(text: MoBytes) -> Result<String, MoResult> {
    // SAFETY: guaranteed by the caller.
    Ok(String::from_utf8_lossy(unsafe { bytes(text)? }).into_owned())
}

/// Copies the value of a header; `None` if `value.ptr` is NULL.
///
/// # Safety
/// Same as [`bytes()`].
pub(super) unsafe fn header(value: MoBytes) -> Result<Option<String>, MoResult> {
    // SAFETY: guaranteed by the caller.
    (!value.ptr.is_null())
        .then(|| unsafe { text(value) })
        .transpose()
}

/// Copies a request. Fields that the caller's version does not have are zero.
///
/// # Safety
/// `request` is NULL or points to as many bytes as its field `size` says.
pub(super) unsafe fn request(request: *const MoRequest) -> Result<MoRequest, MoResult> {
    /// Size in version 1.2.
    const MINIMUM: usize = offset_of!(MoRequest, host);
    if request.is_null() {
        return Err(MoResult::Null);
    }
    // SAFETY: not NULL, so at least its first field is there.
    let size = unsafe { request.cast::<usize>().read() };
    if size < MINIMUM {
        return Err(MoResult::Invalid);
    }
    let mut copy = MaybeUninit::<MoRequest>::zeroed();
    // SAFETY: guaranteed by the caller; all fields may be zero.
    unsafe {
        let size = size.min(size_of::<MoRequest>());
        ptr::copy_nonoverlapping(request.cast::<u8>(), copy.as_mut_ptr().cast(), size);
        Ok(copy.assume_init())
    }
}

/// Copies keys and values.
///
/// # Safety
/// `first` is NULL or points to `count` pairs, each valid as for [`bytes()`].
pub(super) unsafe fn pairs(
    first: *const MoPair,
    count: usize,
) -> Result<impl Iterator<Item = (String, String)>, MoResult> {
    let pairs: &[MoPair] = match (first.is_null(), count) {
        (_, 0) => &[],
        (true, _) => return Err(MoResult::Null),
        (false, count) if count > isize::MAX as usize / size_of::<MoPair>() => {
            return Err(MoResult::Invalid);
        }
        // SAFETY: guaranteed by the caller.
        (false, count) => unsafe { slice::from_raw_parts(first, count) },
    };
    // SAFETY: guaranteed by the caller.
    let read = |pair: &MoPair| unsafe { Ok((text(pair.key)?, text(pair.value)?)) };
    Ok(pairs
        .iter()
        .map(read)
        .collect::<Result<Vec<_>, MoResult>>()?
        .into_iter())
}

/// Returns the pid in a serialized `mesos.MasterInfo`.
pub(super) fn master_info(bytes: &[u8]) -> Option<Upid> {
    let info = limits::decode_master_info(bytes).ok()?;
    if let Some(pid) = info.pid {
        return pid.parse().ok();
    }
    // Mesos masters before 0.24 do not set `pid`. The bytes of `ip` are in network order in
    // memory.
    let ip = Ipv4Addr::from(info.ip.to_ne_bytes());
    let port = u16::try_from(info.port).ok()?;
    (!ip.is_unspecified() && port != 0)
        .then(|| Upid::new("master", SocketAddr::new(ip.into(), port)))
}
