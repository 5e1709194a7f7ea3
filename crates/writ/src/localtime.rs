//! Local time for people. The only unsafe code of this crate: the C library knows the time zone.
#![expect(unsafe_code, reason = "localtime_r has no safe wrapper")]

use writ_core::Timestamp;

/// `2026-01-31 13:34:56` in the local time zone (`TZ`, or the host's).
pub(crate) fn local(time: Timestamp) -> String {
    let Some(parts) = broken_down(time) else { return writ_control::api::Time(time).to_string() };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec
    )
}

fn broken_down(time: Timestamp) -> Option<libc::tm> {
    let seconds = libc::time_t::try_from(time.seconds()).ok()?;
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call; `tm` is plain data for which zeroes are valid.
    let done = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    // SAFETY: zeroed above, and filled by the call if it did anything.
    (!done.is_null()).then(|| unsafe { parts.assume_init() })
}
