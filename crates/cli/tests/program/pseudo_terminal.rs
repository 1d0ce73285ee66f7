//! A person at a terminal: keys in, a screen out.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// How long a slow machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program at a terminal.
pub(crate) struct Terminal {
    keyboard: File,
    /// Kept open, so that the terminal outlives the program.
    line: File,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs `command` in a terminal of so many columns.
    pub(crate) fn run(command: &assert_cmd::Command, columns: u16) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).expect("a terminal");
        unlockpt(&keyboard).expect("a terminal");
        let name = ptsname(&keyboard, Vec::new()).expect("a terminal");
        let name = PathBuf::from(name.into_string().expect("a path"));
        let line = OpenOptions::new().read(true).write(true).open(name);
        let line = line.expect("a terminal");
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&line, size).expect("a terminal");
        let end = || line.try_clone().expect("a terminal");
        let mut program = Command::new(command.get_program());
        program.args(command.get_args()).env_clear();
        let set = command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        program.envs(set).env("TERM", "xterm");
        let child = program.stdin(end()).stdout(end()).stderr(end()).spawn();
        let keyboard = File::from(keyboard);
        let screen = Arc::new(Mutex::new(Vec::new()));
        watch(keyboard.try_clone().expect("a terminal"), screen.clone());
        Self {
            keyboard,
            line,
            child: child.expect("the program starts"),
            screen,
        }
    }

    /// Presses these keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typed");
    }

    /// What was shown until now, escape sequences and all.
    pub(crate) fn screen(&self) -> String {
        let screen = self.screen.lock().expect("unpoisoned");
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// Waits until the screen has shown `words` so many times.
    pub(crate) fn expect(&self, words: &str, times: usize) {
        let start = Instant::now();
        while self.screen().matches(words).count() < times {
            let screen = self.screen();
            assert!(start.elapsed() < PATIENCE, "no `{words}` in:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the prompt that follows so many others: it is there when the editor reads keys.
    pub(crate) fn expect_prompt(&self, number: usize) {
        // The editor turns on the marks around what is pasted each time it begins to read.
        self.expect("\u{1b}[?2004h", number);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("an id");
        let id = Pid::from_raw(id).expect("an id");
        kill_process(id, signal).expect("it runs");
    }

    /// The exit code at the end.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it runs") {
                return status.code();
            }
            let screen = self.screen();
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// True if the terminal itself shows what is typed and reads whole lines, as shells expect.
    pub(crate) fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.line).expect("a terminal").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A failed test leaves nothing running; one that ended well has nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(mut keyboard: File, screen: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = keyboard.read(&mut buffer) {
            if length == 0 {
                return;
            }
            let shown = &buffer[..length];
            screen.lock().expect("unpoisoned").extend_from_slice(shown);
        }
    });
}
