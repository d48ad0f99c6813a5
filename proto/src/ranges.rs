//! Sets of sequence numbers.
