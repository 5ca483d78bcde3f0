use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

fn volumes() -> (tempfile::TempDir, Volumes) {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(dir.path().join("volumes"), own_user());
    fs::create_dir(volumes.root()).unwrap();
    (dir, volumes)
}

/// So that this user's files are the stack's user 0's, also where tests do not run as root.
fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn hash(volumes: &Volumes) -> String {
    volumes.look().unwrap();
    volumes.now().1.hash
}

#[test]
fn a_change_that_leaves_size_and_time_as_they_were_is_seen() {
    let (_dir, volumes) = volumes();
    let file = volumes.root().join("db");
    fs::write(&file, "one").unwrap();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let before = hash(&volumes);
    // Within the tick of the disk's clock, with its time of change set back.
    fs::write(&file, "two").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_ne!(hash(&volumes), before);
    fs::write(&file, "one").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_eq!(hash(&volumes), before);
}

#[test]
fn a_file_that_did_not_change_is_not_read_again() {
    let (_dir, volumes) = volumes();
    let file = volumes.root().join("old");
    fs::write(&file, "old").unwrap();
    let before = hash(&volumes);
    std::thread::sleep(std::time::Duration::from_millis(80));
    assert_eq!(hash(&volumes), before);
    // Read again since it had changed just before the first look; from now on its stamp proves it.
    let accessed = || fs::metadata(&file).unwrap().atime_nsec();
    let (seen, at) = (volumes.now(), accessed());
    assert_eq!((hash(&volumes), accessed()), (before, at));
    assert_eq!(volumes.now(), seen, "nothing is told twice");
}

#[test]
fn nothing_is_written_read_or_removed_through_a_link() {
    let (dir, volumes) = volumes();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, volumes.root().join("way-out")).unwrap();
    symlink(outside.join("secret"), volumes.root().join("link")).unwrap();
    let place = volumes.place();
    let kind = Kind::File { bytes: 1, blocks: Blocks::default() };
    for path in ["way-out/secret", "way-out/new", "../outside/secret", "link"] {
        let item = Item { path: path.into(), kind: kind.clone(), mode: 0o600, user: 0, group: 0, modified_ns: 0 };
        assert!(place.make(&item).is_err(), "{path}");
        assert!(place.write(path, 0, b"x", false).is_err(), "{path}");
        assert!(!matches!(place.open(path), Ok(Some(_))), "{path}");
        if path != "link" {
            assert!(place.finish(&item).is_err(), "{path}");
            let _ = place.remove(path);
        }
    }
    place.remove("way-out").unwrap();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    volumes.look().unwrap();
    assert_eq!(volumes.paths(), ["link"]);
}

#[test]
fn what_is_made_of_items_equals_what_they_were_made_of() {
    let ((_one, source), (_other, copy)) = (volumes(), volumes());
    let root = source.root();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/large"), vec![7; BLOCK * 2 + 5]).unwrap();
    fs::write(root.join("a/empty"), "").unwrap();
    fs::hard_link(root.join("a/b/large"), root.join("same")).unwrap();
    symlink("../nowhere%", root.join("a/link")).unwrap();
    source.look().unwrap();
    let items: Vec<Item> = source.paths().iter().map(|path| source.get(path).unwrap()).collect();
    let place = copy.place();
    for item in &items {
        place.make(item).unwrap();
        if let Kind::File { blocks, .. } = &item.kind {
            let file = source.place().open(&item.path).unwrap().unwrap();
            let mut buffer = vec![0; BLOCK];
            for index in 0..blocks.0.len() as u32 {
                let read = read_block(&file, index, &mut buffer).unwrap();
                place.write(&item.path, index, &buffer[..read], true).unwrap();
            }
        }
    }
    for item in items.iter().rev() {
        place.finish(item).unwrap();
    }
    for item in &items {
        assert!(place.is_so(item, &[(0, 1)][..usize::from(item.bytes() > 0)]).unwrap(), "{item:?}");
    }
    assert_eq!(hash(&copy), hash(&source));
    place.write("a/b/large", 2, b"other", false).unwrap();
    place.finish(&source.get("a/b/large").unwrap()).unwrap();
    assert!(!place.is_so(&source.get("a/b/large").unwrap(), &[(2, 1)]).unwrap(), "a block that differs is found");
    assert_ne!(hash(&copy), hash(&source));
}
