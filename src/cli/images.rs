//! `load`, `import`, `images`.
