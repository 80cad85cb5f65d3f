//! What must hold for all inputs, on inputs drawn at random.

mod integrity;
