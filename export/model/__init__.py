"""The reference: SAM 2 as plain torch modules; imports runtime.session and configs."""
