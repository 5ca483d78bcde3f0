use std::os::unix::fs::symlink;

use super::*;

fn path(text: &str) -> DataPath {
    DataPath::new(text).unwrap()
}

fn limited(bytes: u64) -> Limits {
    Limits { storage_bytes: Some(bytes), ..Limits::default() }
}

async fn put(tree: &Arc<Tree>, name: &str, content: &[u8]) -> Result<Node> {
    let mut upload = tree.upload(&path(name), None)?;
    for chunk in content.chunks(3) {
        upload.write(chunk).await?;
    }
    upload.finish().await
}

fn staged(tree: &Tree) -> usize {
    fs::read_dir(tree.staging()).unwrap().count()
}

#[tokio::test]
async fn a_file_is_there_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(dir.path(), Limits::default()).unwrap();
    put(&tree, "files/a", b"old").await.unwrap();
    let mut cut = tree.upload(&path("files/a"), Some(10)).unwrap();
    cut.write(b"new").await.unwrap();
    assert_eq!(fs::read(dir.path().join("data/files/a")).unwrap(), b"old");
    assert!(matches!(cut.finish().await, Err(TreeError::Incomplete)));
    assert_eq!(fs::read(dir.path().join("data/files/a")).unwrap(), b"old");
    assert_eq!((tree.usage(), staged(&tree)), ((3, 1, None), 0));
    assert!(matches!(put(&tree, "files/no/a", b"x").await, Err(TreeError::Missing)));
    assert!(matches!(put(&tree, "files/a/b", b"x").await, Err(TreeError::Refused)));
    assert!(matches!(put(&tree, "files", b"x").await, Err(TreeError::Refused)));
}

#[tokio::test]
async fn uploads_side_by_side_share_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(dir.path(), limited(10)).unwrap();
    let first = tree.upload(&path("files/a"), Some(6)).unwrap();
    assert!(matches!(tree.upload(&path("files/b"), Some(6)), Err(TreeError::Limit(_))));
    let mut second = tree.upload(&path("files/b"), None).unwrap();
    second.write(b"1234").await.unwrap();
    assert!(matches!(second.write(b"5").await, Err(TreeError::Limit(_))));
    drop((first, second));
    put(&tree, "files/a", b"1234567890").await.unwrap();
    assert!(matches!(put(&tree, "files/b", b"1").await, Err(TreeError::Limit(_))));
    put(&tree, "files/a", b"0987654321").await.unwrap();
    assert_eq!((tree.usage(), staged(&tree)), ((10, 1, Some(10)), 0));
    assert_eq!(tree.state().reserved, 0);
}

#[tokio::test]
async fn what_an_upload_replaces_is_counted_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(dir.path(), limited(10)).unwrap();
    put(&tree, "files/a", b"12345678").await.unwrap();
    let mut late = tree.upload(&path("files/a"), None).unwrap();
    late.write(b"12345678").await.unwrap();
    tree.remove(&path("files/a")).unwrap();
    put(&tree, "files/b", b"12345").await.unwrap();
    assert!(matches!(late.finish().await, Err(TreeError::Limit(_))));
    assert_eq!((tree.usage(), staged(&tree), tree.state().reserved), ((5, 1, Some(10)), 0, 0));
}

#[tokio::test]
async fn a_restart_finds_the_same_tree_in_another_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(dir.path(), Limits::default()).unwrap();
    tree.make_folder(&path("site/empty")).unwrap();
    tree.make_folder(&path("files/a")).unwrap();
    put(&tree, "files/a/x", b"content").await.unwrap();
    put(&tree, "files/y", b"more").await.unwrap();
    tree.rename(&path("files/a"), &path("files/b")).unwrap();
    assert!(matches!(tree.rename(&path("files/b"), &path("files/b/c")), Err(TreeError::Refused)));
    tree.remove(&path("files/y")).unwrap();
    let (cursor, sums) = tree.now().unwrap();
    fs::write(tree.staging().join("left-over"), "x").unwrap();
    let again = Tree::open(dir.path(), Limits::default()).unwrap();
    assert!(again.now().is_none());
    again.hash_all().unwrap();
    assert_eq!(again.now().unwrap().1, sums);
    assert_eq!((again.entries(), again.usage(), staged(&again)), (tree.entries(), tree.usage(), 0));
    assert!(again.changes_since(&cursor, 100).restart);
}

#[test]
fn links_are_not_followed() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let site = dir.path().join("data/site");
    fs::create_dir_all(site.join("folder")).unwrap();
    fs::write(site.join("folder/page"), "page").unwrap();
    symlink(outside.path(), site.join("link")).unwrap();
    symlink(outside.path().join("secret"), site.join("secret")).unwrap();
    let tree = Tree::open(dir.path(), Limits::default()).unwrap();
    assert_eq!(tree.list(&path("site")).unwrap().len(), 1);
    assert!(matches!(tree.read(&path("site/secret")), Err(TreeError::Missing)));
    assert!(tree.read(&path("site/folder/page")).is_ok());
    // A folder that becomes a link while the agent runs.
    fs::rename(site.join("folder"), site.join("other")).unwrap();
    symlink(outside.path(), site.join("folder")).unwrap();
    fs::write(outside.path().join("page"), "secret").unwrap();
    assert!(matches!(tree.read(&path("site/folder/page")), Err(TreeError::Disk(_))));
}
