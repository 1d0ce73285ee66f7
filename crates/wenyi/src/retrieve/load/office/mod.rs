//! The documents of office programs: ZIP packages of XML parts (ECMA-376).

pub(super) mod package;
pub(super) mod xml;
mod chart;
pub(super) mod docx;
pub(super) mod pptx;
pub(super) mod xlsx;
