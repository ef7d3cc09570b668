//! The `wasi_snapshot_preview1` imports: the little that a proxy gives to a module.

use super::LogLevel;
use super::guest::{Args, Failed, Guest};

/// Bad file descriptor.
const EBADF: u32 = 8;
/// Bad address.
const EFAULT: u32 = 21;
/// Not implemented.
const ENOSYS: u32 = 52;
/// Not supported.
const ENOTSUP: u32 = 58;

/// Carries out one WASI call and returns its error number. No files, no arguments, no sleeping: as in the proxy.
pub(super) fn call(guest: &mut Guest<'_, '_>, name: &str, args: Args<'_>) -> Result<u32, wasmi::Error> {
    let answer = match name {
        "clock_time_get" => clock(guest, args),
        "random_get" => random(guest, args),
        "fd_write" => write(guest, args),
        "environ_sizes_get" => environment_sizes(guest, args),
        "environ_get" => environment(guest, args),
        "args_sizes_get" => {
            guest.put_u32(args.u32(0), 0).and_then(|()| guest.put_u32(args.u32(1), 0)).map_err(Failed::from)
        }
        "args_get" | "sched_yield" => Ok(()),
        // The C library asks for preopened folders until it hears this.
        "fd_prestat_get" => return Ok(EBADF),
        "proc_exit" => return Err(wasmi::Error::i32_exit(args.i32(0))),
        _ => return Ok(ENOSYS),
    };
    match answer {
        Ok(()) => Ok(0),
        Err(Failed::Status(super::Status::BadArgument)) => Ok(ENOTSUP),
        Err(Failed::Status(super::Status::NotFound)) => Ok(EBADF),
        Err(Failed::Status(_)) => Ok(EFAULT),
        Err(Failed::Trap(trap)) => Err(trap),
    }
}

fn clock(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Result<(), Failed> {
    if args.u32(0) != 0 {
        return Err(super::Status::BadArgument.into()); // only the wall clock exists
    }
    let now = guest.state().clock.now_ns();
    Ok(guest.put(args.u32(2), &now.to_le_bytes())?)
}

fn random(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Result<(), Failed> {
    let length = args.u32(1) as usize;
    let bytes: Vec<u8> = std::iter::repeat_with(|| guest.state().next_random().to_le_bytes())
        .take(length.div_ceil(8))
        .flatten()
        .collect();
    Ok(guest.put(args.u32(0), &bytes[..length])?)
}

/// Standard output is logged as information, standard error (where panics go) as error.
fn write(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Result<(), Failed> {
    let level = match args.u32(0) {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Err(super::Status::NotFound.into()),
    };
    let mut text = Vec::new();
    for vector in 0..args.u32(2) {
        let vector = guest.bytes(args.u32(1) + vector * 8, 8)?;
        let number = |at: usize| u32::from_le_bytes([vector[at], vector[at + 1], vector[at + 2], vector[at + 3]]);
        text.extend(guest.bytes(number(0), number(4))?);
    }
    guest.put_u32(args.u32(3), u32::try_from(text.len()).expect("a message is short"))?;
    guest.log(level, text.strip_suffix(b"\n").unwrap_or(&text));
    Ok(())
}

fn environment_sizes(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Result<(), Failed> {
    let texts = environment_texts(guest);
    guest.put_u32(args.u32(0), u32::try_from(texts.len()).expect("few variables"))?;
    Ok(guest.put_u32(args.u32(1), u32::try_from(texts.concat().len()).expect("short variables"))?)
}

fn environment(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Result<(), Failed> {
    let (mut slot, mut at) = (args.u32(0), args.u32(1));
    for text in environment_texts(guest) {
        guest.put_u32(slot, at)?;
        guest.put(at, &text)?;
        slot += 4;
        at += u32::try_from(text.len()).expect("short variables");
    }
    Ok(())
}

fn environment_texts(guest: &mut Guest<'_, '_>) -> Vec<Vec<u8>> {
    guest.state().environment.iter().map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}
