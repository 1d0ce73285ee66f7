//! What a file is that ought to hold weights and does not.

/// Names the kinds of files that people find in place of weights, for the error's sake.
pub(super) fn describe(bytes: &[u8]) -> Option<String> {
    let head = &bytes[..bytes.len().min(512)];
    let text = String::from_utf8_lossy(head);
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let lower = start.to_ascii_lowercase();
    if start.starts_with("version https://git-lfs") {
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        let size = size.map_or(String::new(), |size| format!(" of {size} bytes"));
        return Some(format!(
            "it is a git-LFS pointer to a file{size}, not the file itself; run `git lfs pull`"
        ));
    }
    if ["<!doctype html", "<html", "<?xml"]
        .iter()
        .any(|tag| lower.starts_with(tag))
    {
        return Some("it is a web page, perhaps a login or error page, not weights".into());
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"\x80\x02") {
        return Some("it is a PyTorch or zip archive, expected safetensors or GGUF".into());
    }
    if start.starts_with("{\"") || start.starts_with("{\n") {
        return Some("it is JSON text, expected safetensors or GGUF".into());
    }
    None
}
