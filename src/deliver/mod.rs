//! Changes and verdict → a delivery: titles, bodies, branch names.
