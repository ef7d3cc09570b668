//! The `env` imports: proxy-wasm ABI 0.2.1.

use super::guest::{Args, Failed, Guest};
use super::state::Phase;
use super::{Headers, Kind, LocalReply, LogLevel, Status};

type Answer = Result<(), Failed>;

/// Carries out one host call. What is not scripted answers `Unimplemented`, so that a new module still loads and the
/// test that runs into it sees which call it was.
pub(super) fn call(guest: &mut Guest<'_, '_>, name: &str, args: Args<'_>) -> Answer {
    match name {
        "proxy_log" => log(guest, args),
        "proxy_get_log_level" => {
            let level = guest.state().log_level as u32;
            Ok(guest.put_u32(args.u32(0), level)?)
        }
        "proxy_get_current_time_nanoseconds" => {
            let now = guest.state().clock.now_ns();
            Ok(guest.put(args.u32(0), &now.to_le_bytes())?)
        }
        "proxy_set_tick_period_milliseconds" => {
            guest.state().tick_period_ms = args.u32(0);
            Ok(())
        }
        "proxy_get_buffer_bytes" => get_buffer(guest, args),
        "proxy_set_buffer_bytes" => {
            let bytes = guest.bytes(args.u32(3), args.u32(4))?;
            guest.note(format!("{} bytes", bytes.len()));
            let (start, length) = (args.u32(1) as usize, args.u32(2) as usize);
            Ok(guest.state().replace_buffer(args.u32(0), start, length, bytes)?)
        }
        "proxy_get_shared_data" => get_shared_data(guest, args),
        "proxy_set_shared_data" => set_shared_data(guest, args),
        "proxy_get_header_map_value" => get_header(guest, args),
        "proxy_get_header_map_pairs" => get_headers(guest, args),
        "proxy_set_header_map_pairs" => {
            let pairs = guest.bytes(args.u32(1), args.u32(2))?;
            *guest.state().map(args.u32(0))? = Headers::decode(&pairs).ok_or(Status::BadArgument)?;
            Ok(())
        }
        "proxy_add_header_map_value" => change_header(guest, args, Headers::add),
        "proxy_replace_header_map_value" => change_header(guest, args, Headers::set),
        "proxy_remove_header_map_value" => {
            let name = guest.bytes(args.u32(1), args.u32(2))?;
            guest.note(text(&name));
            guest.state().map(args.u32(0))?.remove(&name);
            Ok(())
        }
        "proxy_get_property" => {
            let path = guest.bytes(args.u32(0), args.u32(1))?;
            guest.note(dotted(&path));
            let value = guest.state().property(&path).ok_or(Status::NotFound)?;
            guest.give(&value, args.u32(2), args.u32(3))
        }
        "proxy_set_property" => set_property(guest, args),
        "proxy_send_local_response" => send_local_response(guest, args),
        "proxy_define_metric" => define_metric(guest, args),
        "proxy_increment_metric" => {
            let name = metric(guest, args)?;
            succeed(guest.state().metrics.increment(&name, args.i64(1)))
        }
        "proxy_record_metric" => {
            let name = metric(guest, args)?;
            succeed(guest.state().metrics.record(&name, args.i64(1).cast_unsigned()))
        }
        "proxy_get_metric" => {
            let name = metric(guest, args)?;
            let value = guest.state().metrics.read(&name)?;
            Ok(guest.put(args.u32(1), &value.to_le_bytes())?)
        }
        "proxy_call_foreign_function" => {
            let name = guest.bytes(args.u32(0), args.u32(1))?;
            guest.note(text(&name));
            Err(Status::NotFound.into())
        }
        "proxy_set_effective_context" => {
            let known = guest.state().contexts.contains(&args.u32(0));
            guest.state().effective = args.u32(0);
            succeed(if known { Status::Ok } else { Status::BadArgument })
        }
        "proxy_get_status" => {
            guest.put_u32(args.u32(0), 0)?;
            guest.give(b"", args.u32(1), args.u32(2))
        }
        "proxy_continue_stream" => {
            let state = guest.state();
            state.resumed.push(state.effective);
            Ok(())
        }
        "proxy_close_stream" | "proxy_done" => Ok(()),
        _ => Err(Status::Unimplemented.into()),
    }
}

fn log(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let level = LogLevel::from_abi(args.u32(0)).ok_or(Status::BadArgument)?;
    let message = guest.bytes(args.u32(1), args.u32(2))?;
    guest.note(text(&message));
    guest.log(level, &message);
    Ok(())
}

fn get_buffer(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let (buffer, start, length) = (args.u32(0), args.u32(1) as usize, args.u32(2) as usize);
    guest.note(format!("{buffer} [{start}, +{length}]"));
    let bytes = guest.state().buffer(buffer).ok_or(Status::NotFound)?;
    let end = start.saturating_add(length).min(bytes.len());
    let bytes = bytes.get(start..end).unwrap_or_default().to_vec();
    if bytes.is_empty() {
        return Ok(()); // the module's out pointers stay as they are, as in the real host
    }
    guest.give(&bytes, args.u32(3), args.u32(4))
}

fn get_shared_data(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let key = guest.bytes(args.u32(0), args.u32(1))?;
    guest.note(text(&key));
    let (value, version) = guest.state().shared.get(&key).ok_or(Status::NotFound)?;
    guest.give(&value, args.u32(2), args.u32(3))?;
    Ok(guest.put_u32(args.u32(4), version)?)
}

fn set_shared_data(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let key = guest.bytes(args.u32(0), args.u32(1))?;
    let value = guest.bytes(args.u32(2), args.u32(3))?;
    let version = args.u32(4);
    guest.note(format!("{} if version {version}, {} bytes", text(&key), value.len()));
    succeed(guest.state().shared.set(&key, &value, version))
}

fn get_header(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let name = guest.bytes(args.u32(1), args.u32(2))?;
    guest.note(text(&name));
    let map = guest.state().map(args.u32(0))?;
    // Only the first of several lines: the surprise that a filter has to live with.
    let value = map.all(&name).first().ok_or(Status::NotFound)?.to_vec();
    guest.give(&value, args.u32(3), args.u32(4))
}

fn get_headers(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let pairs = match guest.state().map(args.u32(0)) {
        Ok(headers) if headers.lines().is_empty() => Vec::new(),
        Ok(headers) => headers.encode(),
        // While logging, a map that never came to be reads as an empty one.
        Err(Status::NotFound) => Vec::new(),
        Err(status) => return Err(status.into()),
    };
    guest.give(&pairs, args.u32(1), args.u32(2))
}

fn change_header(guest: &mut Guest<'_, '_>, args: Args<'_>, change: fn(&mut Headers, &[u8], &[u8])) -> Answer {
    let name = guest.bytes(args.u32(1), args.u32(2))?;
    let value = guest.bytes(args.u32(3), args.u32(4))?;
    guest.note(format!("{}: {}", text(&name), text(&value)));
    change(guest.state().map(args.u32(0))?, &name, &value);
    Ok(())
}

fn set_property(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let path = guest.bytes(args.u32(0), args.u32(1))?;
    let value = guest.bytes(args.u32(2), args.u32(3))?;
    guest.note(format!("{} = {}", dotted(&path), text(&value)));
    let stream = &mut guest.state().stream;
    if stream.phase == Phase::Root {
        return Err(Status::NotFound.into());
    }
    stream.properties_set.push((dotted(&path), value));
    Ok(())
}

fn send_local_response(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let details = guest.bytes(args.u32(1), args.u32(2))?;
    let body = guest.bytes(args.u32(3), args.u32(4))?;
    let headers = guest.bytes(args.u32(5), args.u32(6))?;
    let headers = Headers::decode(&headers).ok_or(Status::BadArgument)?;
    let (status, grpc_status) = (args.u32(0), args.i32(7));
    guest.note(format!("{status} {}", text(&details)));
    let reply = LocalReply { status, details: text(&details), body, headers, grpc_status };
    // The first one of a phase wins, the others are accepted and forgotten.
    guest.state().stream.reply.get_or_insert(reply);
    Ok(())
}

fn define_metric(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Answer {
    let kind = Kind::from_abi(args.u32(0)).ok_or(Status::BadArgument)?;
    let name = text(&guest.bytes(args.u32(1), args.u32(2))?);
    guest.note(name.clone());
    let state = guest.state();
    state.metrics.define(kind, &name);
    // Every definition gets another number, also of the same name: defining per request would leak.
    state.metric_names.push(name);
    let id = u32::try_from(state.metric_names.len()).expect("few metrics");
    Ok(guest.put_u32(args.u32(3), id)?)
}

/// The name behind the metric number in the first argument.
fn metric(guest: &mut Guest<'_, '_>, args: Args<'_>) -> Result<String, Status> {
    let index = args.u32(0).checked_sub(1).ok_or(Status::NotFound)?;
    let name = guest.state().metric_names.get(index as usize).cloned().ok_or(Status::NotFound)?;
    guest.note(format!("{name} {}", args.i64(1)));
    Ok(name)
}

fn succeed(status: Status) -> Answer {
    if status == Status::Ok { Ok(()) } else { Err(status.into()) }
}

fn text(bytes: &[u8]) -> String {
    // Header values and keys of shared data may be any bytes; a recording should stay readable and exact.
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}

fn dotted(path: &[u8]) -> String {
    text(path).replace('\0', ".")
}
