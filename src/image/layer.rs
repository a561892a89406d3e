//! One layer: tar into a folder that overlay can use, within ceilings.
