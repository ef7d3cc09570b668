//! The module's memory, as a host call sees it.

use wasmi::{AsContextMut, Caller, Val};

use super::state::State;
use super::{LogLevel, Status};

/// Why a host call does not simply return "ok".
pub(super) enum Failed {
    /// It returns this status and the module goes on.
    Status(Status),
    /// The module is dead.
    Trap(wasmi::Error),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The arguments of a host call; a missing or wrongly typed one is 0, since the linker already checked the module's own
/// idea of it.
#[derive(Clone, Copy)]
pub(super) struct Args<'a>(pub(super) &'a [Val]);

impl Args<'_> {
    pub(super) fn u32(self, index: usize) -> u32 {
        self.0.get(index).and_then(Val::i32).unwrap_or_default().cast_unsigned()
    }

    pub(super) fn i32(self, index: usize) -> i32 {
        self.u32(index).cast_signed()
    }

    pub(super) fn i64(self, index: usize) -> i64 {
        self.0.get(index).and_then(Val::i64).unwrap_or_default()
    }
}

/// The module that made the host call.
pub(super) struct Guest<'a, 'c>(pub(super) &'a mut Caller<'c, State>);

impl Guest<'_, '_> {
    pub(super) fn state(&mut self) -> &mut State {
        self.0.data_mut()
    }

    /// Says what the call is about, for the recording.
    pub(super) fn note(&mut self, args: String) {
        self.state().call.args = args;
    }

    pub(super) fn log(&mut self, level: LogLevel, message: &[u8]) {
        self.state().log(level, message);
    }

    /// `length` bytes at `pointer`.
    pub(super) fn bytes(&mut self, pointer: u32, length: u32) -> Result<Vec<u8>, Status> {
        let memory = self.0.data().memory.ok_or(Status::InvalidMemoryAccess)?;
        let start = pointer as usize;
        let bytes = memory.data(&*self.0).get(start..start + length as usize);
        let bytes = bytes.map(<[u8]>::to_vec).ok_or(Status::InvalidMemoryAccess)?;
        self.state().seen.copied_bytes += bytes.len();
        Ok(bytes)
    }

    pub(super) fn put(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Status> {
        let memory = self.0.data().memory.ok_or(Status::InvalidMemoryAccess)?;
        memory.write(&mut *self.0, pointer as usize, bytes).map_err(|_| Status::InvalidMemoryAccess)?;
        self.state().seen.copied_bytes += bytes.len();
        Ok(())
    }

    pub(super) fn put_u32(&mut self, pointer: u32, value: u32) -> Result<(), Status> {
        self.put(pointer, &value.to_le_bytes())
    }

    /// Hands bytes to the module: memory is asked of the module itself, which is the second entry that makes such calls
    /// expensive; nothing is asked for no bytes.
    pub(super) fn give(&mut self, bytes: &[u8], pointer_at: u32, length_at: u32) -> Result<(), Failed> {
        let length = u32::try_from(bytes.len()).expect("a test's bytes fit 32 bits");
        let mut pointer = 0;
        if length > 0 {
            pointer = self.allocate(length)?;
            self.put(pointer, bytes)?;
        }
        self.put_u32(pointer_at, pointer)?;
        self.put_u32(length_at, length)?;
        self.state().call.returned_bytes += bytes.len();
        Ok(())
    }

    fn allocate(&mut self, length: u32) -> Result<u32, Failed> {
        let allocate = self.0.data().allocate.ok_or(Status::InternalFailure)?;
        self.state().seen.entries.push("proxy_on_memory_allocate".to_owned());
        let pointer = allocate.call(self.0.as_context_mut(), length).map_err(Failed::Trap)?;
        if pointer == 0 { Err(Status::InvalidMemoryAccess.into()) } else { Ok(pointer) }
    }
}
