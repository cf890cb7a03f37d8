//! What calls across the ABI return.

/// Result of a call: 0 is success, negative values are reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(i32)]
#[non_exhaustive]
pub enum Code {
    /// Done, or taken.
    #[error("ok")]
    Ok = 0,
    /// Two writers at once on one session, or the window is full: try again later. After a unit was refused with it the
    /// next one is marked discontinuous.
    #[error("busy")]
    Busy = -1,
    /// No session, source or track has this id (it may have ended meanwhile).
    #[error("unknown id")]
    Unknown = -2,
    /// An argument is outside its limits, or JSON could not be read.
    #[error("invalid argument")]
    Invalid = -3,
    /// The other side has no such function, role or kind.
    #[error("unsupported")]
    Unsupported = -4,
    /// The ring, stream or window was closed.
    #[error("closed")]
    Closed = -5,
    /// The buffer given is too small; `needed` says how many bytes would do.
    #[error("buffer too small")]
    TooSmall = -6,
    /// The callee panicked; the panic was caught and logged.
    #[error("the callee panicked")]
    Panicked = -7,
    /// A memory or size limit was met; the data was not taken.
    #[error("over a limit")]
    OverLimit = -8,
}

impl Code {
    /// The code behind a raw return value; unknown values read as [`Code::Invalid`].
    pub fn from_raw(raw: i32) -> Self {
        const ALL: [Code; 9] = [
            Code::Ok,
            Code::Busy,
            Code::Unknown,
            Code::Invalid,
            Code::Unsupported,
            Code::Closed,
            Code::TooSmall,
            Code::Panicked,
            Code::OverLimit,
        ];
        ALL.into_iter().find(|code| *code as i32 == raw).unwrap_or(Code::Invalid)
    }

    /// `Ok(())` for success.
    pub fn result(self) -> Result<(), Self> {
        if self == Self::Ok { Ok(()) } else { Err(self) }
    }
}
