//! The library people import.
