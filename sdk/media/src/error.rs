//! Why bytes could not be read.

/// Why a bitstream structure could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before the field.
    #[error("the bytes end inside {field}")]
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// A field holds a value that the format forbids or that this crate refuses.
    #[error("{field} is {value}")]
    OutOfRange {
        /// The field's name in the specification.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// The NAL unit is of another type.
    #[error("NAL unit of type {found} where {expected} was expected")]
    WrongNalType {
        /// The type that was asked for.
        expected: u8,
        /// The type that was found.
        found: u8,
    },
    /// A sync word or magic is absent.
    #[error("no {what} here")]
    NoSync {
        /// What was looked for.
        what: &'static str,
    },
}

/// Adds the name of a field to a missing value.
pub(crate) trait Field<T> {
    /// The value, or [`Error::Truncated`] in `field`.
    fn field(self, field: &'static str) -> Result<T, Error>;
}

impl<T> Field<T> for Option<T> {
    fn field(self, field: &'static str) -> Result<T, Error> {
        self.ok_or(Error::Truncated { field })
    }
}
