//! What a host call answers.

/// The ABI's status codes; the SDK's own enum lacks some, and panics when it meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such key, header, property, metric or function.
    NotFound = 1,
    /// An argument out of range, or a map that does not exist in this phase.
    BadArgument = 2,
    /// A pointer outside the module's memory.
    InvalidMemoryAccess = 6,
    /// The queue is empty.
    Empty = 7,
    /// Somebody else wrote the key since it was read.
    CasMismatch = 8,
    /// The host failed, or the capability is blocked.
    InternalFailure = 10,
    /// This host has no such call.
    Unimplemented = 12,
}
