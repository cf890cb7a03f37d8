#![allow(missing_docs)]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitHeader {
    pub sequence: u64,
    pub track: u16,
    pub flags: u16,
    pub epoch: u32,
    pub pts: i64,
    pub dts: i64,
    pub duration: u32,
    pub len: u32,
    pub arrival_ns: u64,
    pub last_key: u64,
    pub reserved: u64,
}
impl UnitHeader {
    pub fn from_record(_: &[u8; 64]) -> Self {
        Self::default()
    }
}
pub mod flags {
    pub const KEY: u16 = 1;
    pub const DISCONTINUITY: u16 = 2;
    pub const INCOMPLETE: u16 = 4;
    pub const END: u16 = 8;
    pub const CONFIG: u16 = 16;
}
