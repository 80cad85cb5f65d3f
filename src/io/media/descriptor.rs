//! Descriptors that the parent process handed over: `fd:3` and shell redirections such as `3>qos.jsonl`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

/// What a descriptor is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read from.
    Read,
    /// To write to.
    Write,
}

/// Takes over descriptor `number`, which this process inherited.
///
/// Standard input, output and error are duplicated, any other number is closed when the result is dropped; it can be
/// taken once.
///
/// # Errors
///
/// When it is not open, not inherited (a descriptor that this program opened for itself is none of the user's), or
/// open for the other direction only.
pub fn take_descriptor(number: u32, access: Access) -> io::Result<OwnedFd> {
    match number {
        0 => return io::stdin().as_fd().try_clone_to_owned(),
        1 => return io::stdout().as_fd().try_clone_to_owned(),
        2 => return io::stderr().as_fd().try_clone_to_owned(),
        _ => {}
    }
    let raw = RawFd::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let flags = descriptor_flags(raw)?;
    check_flags(flags, access)?;
    let inherited = own(raw);
    // Moved to a number that is closed on exec and dropped here: the old number is free, nobody can take it twice,
    // and hooks that we start do not hold the other end open.
    let moved = inherited.try_clone()?;
    drop(inherited);
    Ok(moved)
}

/// The open flags of a descriptor, as the kernel prints them: octal, close-on-exec included.
fn descriptor_flags(raw: RawFd) -> io::Result<u32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{raw}")).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            io::Error::new(io::ErrorKind::NotFound, "not open")
        } else {
            error
        }
    })?;
    text.lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel shows no flags"))
}

/// Refuses what was not inherited or points the other way.
fn check_flags(flags: u32, access: Access) -> io::Result<()> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    const ACCESS_MODE: u32 = 0o3;
    const WRITE_ONLY: u32 = 0o1;
    const READ_ONLY: u32 = 0o0;
    // Whatever crossed an exec has the flag clear; whatever this program opened itself has it set.
    if flags & CLOSE_ON_EXEC != 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "not open"));
    }
    let why = match (flags & ACCESS_MODE, access) {
        (WRITE_ONLY, Access::Read) => "open for writing only",
        (READ_ONLY, Access::Write) => "open for reading only",
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

#[allow(
    unsafe_code,
    reason = "no safe way turns an inherited number into a descriptor"
)]
fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just shown the number open and inherited, so no object of this process owns it.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn closed_numbers_and_our_own_files_are_refused() {
        let refused = |number: u32, access| {
            take_descriptor(number, access)
                .expect_err("refused")
                .to_string()
        };
        assert_eq!(refused(987_654, Access::Read), "not open");
        assert!(take_descriptor(u32::MAX, Access::Read).is_err());
        let file = File::open("/dev/null").expect("there is always a null device");
        let number = u32::try_from(file.as_raw_fd()).expect("descriptors are not negative");
        assert_eq!(refused(number, Access::Read), "not open");
    }

    #[test]
    fn the_direction_is_checked() {
        assert!(check_flags(0o100_000, Access::Read).is_ok());
        assert!(check_flags(0o100_000, Access::Write).is_err());
        assert!(check_flags(0o100_001, Access::Read).is_err());
        assert!(check_flags(0o2, Access::Write).is_ok() && check_flags(0o2, Access::Read).is_ok());
        assert!(check_flags(0o2_100_000, Access::Read).is_err());
    }
}
