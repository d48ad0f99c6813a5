//! What several fuzz targets need: a folder in memory and the bytes of the journal's files.

pub mod form;
pub mod memory;
