//! A folder of small files, each replaced whole: whoever reads one after a power cut finds the old or the
//! new one.
//!
//! The order write, fsync, rename, fsync of the folder is what POSIX asks for and what ext4, f2fs and
//! btrfs keep (LWN 457667, "Ensuring data reaches disk").

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The rights of a file that only its owner may read.
const SECRET: u32 = 0o600;
/// The rights of a file of the station's own, whoever starts it: passwords' digests are among them.
const OWN: u32 = 0o640;

/// Bytes of a file that are read or written at once. A kernel that is not preemptible keeps the processor for as long as one call
/// takes, which for the 128 MB of a ViT-B/16 was 35 ms and for 20 MB of good parts 5 ms, even from a thread with real-time priority.
pub(crate) const PIECE: usize = 1 << 20;

/// Bytes of the largest file that is read as a whole: a memory of good parts, with room to spare.
pub(crate) const LARGEST: u64 = 256 << 20;

/// Reads a file, in pieces of [`PIECE`].
///
/// # Errors
/// The file system's; what is no file (a device or a pipe may never end), or is longer than [`LARGEST`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_by(path, 0)
}

/// `flags` for `open`, as well.
fn read_by(path: &Path, flags: i32) -> io::Result<Vec<u8>> {
    // A pipe without a writer would be waited for.
    let flags = flags | libc::O_NONBLOCK;
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    let refused = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if !found.is_file() {
        return refused("not a file".into());
    }
    if found.len() > LARGEST {
        return refused(format!("{} bytes, more than {LARGEST}", found.len()));
    }
    // What the file system says of the length is a guess: the end is where nothing more comes.
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(found.len()).unwrap_or(0))?;
    while Read::by_ref(&mut file)
        .take(PIECE as u64)
        .read_to_end(&mut bytes)?
        > 0
    {}
    Ok(bytes)
}

/// Writes what is not in the file yet, in pieces of [`PIECE`].
fn write_to(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    bytes
        .chunks(PIECE)
        .try_for_each(|piece| file.write_all(piece))
}

/// Writes bytes beside `path`, flushes them to the disk and renames: `path` is old or new,
/// never half.
///
/// # Errors
/// The file system's.
pub fn save(bytes: &[u8], path: &Path) -> io::Result<()> {
    replace(bytes, path, 0o666)
}

/// The same for a file that nobody but its owner may read.
///
/// # Errors
/// The file system's.
pub fn save_secret(bytes: &[u8], path: &Path) -> io::Result<()> {
    replace(bytes, path, SECRET)
}

/// `mode` are the file's rights, less those that the process's mask takes.
fn replace(bytes: &[u8], path: &Path, mode: u32) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = folder.join(name);
    let file = alone(&temporary, mode)?;
    let written = (|| {
        file.set_len(0)?;
        write_to(&file, bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // Nothing half-written stays behind; the first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Opens the file that is written before it gets its name, and holds it: whoever writes the same one at the same time, in
/// this program or in another, waits until it is closed. The lock ends with the process, so what a killed one left behind
/// is taken over.
fn alone(temporary: &Path, mode: u32) -> io::Result<File> {
    let mut removed = false;
    loop {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW)
            .open(temporary)?;
        if let Err(e) = file.lock() {
            // Some network file systems have no locks.
            let none = e.kind() == io::ErrorKind::Unsupported;
            if !none && e.raw_os_error() != Some(libc::ENOLCK) {
                return Err(e);
            }
        }
        let held = file.metadata()?;
        let there = match fs::metadata(temporary) {
            Ok(there) => there,
            // Whoever had it has given it its name: this is that file now, and must not be written.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if (held.dev(), held.ino()) != (there.dev(), there.ino()) {
            continue;
        }
        if mode == SECRET && held.mode() & 0o077 != 0 && !removed {
            // One that was left behind has wider rights; on some file systems every file has.
            fs::remove_file(temporary)?;
            removed = true;
            continue;
        }
        return Ok(file);
    }
}

/// What is done with files. One implementation writes them; another, in the tests, keeps a record
/// of every step and loses what was not flushed.
pub(crate) trait Files {
    /// The bytes of a file; `None` if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Makes a file, or makes it anew.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Flushes a file's bytes.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of any file of that name.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file away; it is no error if there is none.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Flushes the folder's names.
    fn sync_folder(&mut self) -> io::Result<()>;

    /// Replaces a file by these bytes: they are safe when this returns.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!("{name}.new");
        self.write(&new, bytes)?;
        self.sync(&new)?;
        self.rename(&new, name)?;
        self.sync_folder()
    }
}

/// A file that one program at a time holds.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Makes the file and takes it; `None` if another program has it.
    pub(crate) fn take(path: &Path) -> io::Result<Option<Lock>> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
        give_to_folder(&file, path);
        Lock::on(file)
    }

    fn on(file: File) -> io::Result<Option<Lock>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: a child that another thread forks at this moment has a copy.
        let _ = self.0.unlock();
    }
}

/// What root makes in a folder of the station's belongs to the station, which could not read it otherwise. Some file systems,
/// and root in some containers, cannot give files away: then it stays root's.
fn give_to_folder(file: &File, path: &Path) {
    if rustix::process::geteuid().is_root()
        && let Ok(folder) = fs::metadata(path.parent().unwrap_or(Path::new(".")))
    {
        let _ = std::os::unix::fs::fchown(file, Some(folder.uid()), Some(folder.gid()));
    }
}

/// A real folder. Links in it are not followed: who may write the folder may not lead root, who works in it, elsewhere.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held as long as the folder is open; `None` where not even that can be written.
    _lock: Option<Lock>,
}

fn in_use() -> io::Error {
    io::Error::other("another program uses this folder")
}

/// Whether a folder may be the right one and cannot be written: its disk is full or fails, or is mounted for reading.
fn is_unwritable(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
    ];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(libc::EIO)
}

impl Folder {
    /// Opens it, makes it if there is none; one program at a time.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock = Lock::take(&path.join("lock"))?.ok_or_else(in_use)?;
        Ok(Folder {
            path: path.to_path_buf(),
            _lock: Some(lock),
        })
    }

    /// The same, but one that cannot be written is opened too: what is in it can be read, and every write fails
    /// until it can be written.
    pub(crate) fn open_anyway(path: &Path) -> io::Result<Self> {
        match Folder::open(path) {
            Err(e) if is_unwritable(&e) => {
                let lock = match File::open(path.join("lock")) {
                    Ok(file) => Some(Lock::on(file)?.ok_or_else(in_use)?),
                    Err(_) => None,
                };
                Ok(Folder {
                    path: path.to_path_buf(),
                    _lock: lock,
                })
            }
            opened => opened,
        }
    }

    /// A folder that this program holds already, for another thread of it.
    pub(crate) fn held(path: &Path) -> Self {
        Folder {
            path: path.to_path_buf(),
            _lock: None,
        }
    }
}

impl Files for Folder {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match read_by(&self.path.join(name), libc::O_NOFOLLOW) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(OWN);
        options.custom_flags(libc::O_NOFOLLOW);
        let file = match options.open(&path) {
            // It could not be made when it was opened.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.path)?;
                options.open(&path)
            }
            made => made,
        }?;
        // One that was left behind may have wider rights; some file systems know none.
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o777 & !OWN != 0 {
            let _ = file.set_permissions(fs::Permissions::from_mode(mode & OWN));
        }
        give_to_folder(&file, &path);
        write_to(&file, bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        // For writing: some file systems flush nothing through a descriptor that only reads.
        let mut options = File::options();
        options.append(true).custom_flags(libc::O_NOFOLLOW);
        options.open(self.path.join(name))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| {
            let entry = entry?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        });
        names.collect()
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_the_same_file_at_the_same_time_waits_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // One that was killed in the middle.
        fs::write(folder.path().join("file.tmp"), vec![b'x'; 10_000]).unwrap();
        let secret = |n: u8| n.is_multiple_of(2);
        std::thread::scope(|scope| {
            for n in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let bytes = vec![n; 5000 + usize::from(n)];
                        match secret(n) {
                            true => save_secret(&bytes, path).unwrap(),
                            false => save(&bytes, path).unwrap(),
                        }
                    }
                });
            }
        });
        let last = read(&path).unwrap();
        let n = last[0];
        assert!(last == vec![n; 5000 + usize::from(n)], "one of them, whole");
        if secret(n) {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SECRET);
        }
        assert_eq!(Folder::held(folder.path()).names().unwrap(), ["file"]);
    }

    /// Root restores backups into the station's folder and asks what it judges by.
    #[test]
    fn links_and_pipes_in_a_folder_lead_nowhere_and_keep_nobody() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let elsewhere = other.path().join("elsewhere");
        fs::write(&elsewhere, "theirs").unwrap();
        for name in ["memory", "memory.new", "lock"] {
            std::os::unix::fs::symlink(&elsewhere, folder.path().join(name)).unwrap();
        }
        let mut files = Folder::held(folder.path());
        assert!(files.read("memory").is_err());
        assert!(files.write("memory.new", b"ours").is_err());
        assert!(Lock::take(&folder.path().join("lock")).is_err());
        assert!(
            save(b"ours", &folder.path().join("memory")).is_ok(),
            "the link is replaced"
        );
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("a.tmp")).unwrap();
        assert!(save(b"ours", &folder.path().join("a")).is_err());
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        // Where root writes, whoever has the folder reads; this needs root.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(1234), Some(1235)).unwrap();
            files.write("given", b"ours").unwrap();
            drop(Lock::take(&folder.path().join("held")).unwrap());
            for name in ["given", "held"] {
                let made = fs::metadata(folder.path().join(name)).unwrap();
                assert_eq!((made.uid(), made.gid()), (1234, 1235), "{name}");
            }
        }
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(files.read("pipe").is_err());
    }

    #[test]
    fn files_of_several_pieces_come_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, PIECE - 1, PIECE, 2 * PIECE, 2 * PIECE + 1] {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            save(&bytes, &path).unwrap();
            assert!(read(&path).unwrap() == bytes, "{length}");
            let mut files = Folder::held(folder.path());
            files.write("other", &bytes).unwrap();
            assert!(files.read("other").unwrap().unwrap() == bytes, "{length}");
        }
        // One of before.
        let left = folder.path().join("other");
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        Folder::held(folder.path()).write("other", &[]).unwrap();
        let other = fs::metadata(left).unwrap();
        assert_eq!(
            other.permissions().mode() & 0o007,
            0,
            "nobody else reads it"
        );
        assert!(read(folder.path()).is_err(), "a folder");
        assert!(read(Path::new("/dev/zero")).is_err(), "it never ends");
        let long = folder.path().join("long");
        File::create(&long).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(read(&long).unwrap_err().to_string().contains("more than"));
        assert_eq!(
            read(&folder.path().join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
