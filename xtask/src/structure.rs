//! Rules about the structure of the code, read from the code itself: the modules of a crate do
//! not import each other in circles, and the core depends on pure crates only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, UseTree};

/// A module's path below its crate's root, such as `["master", "peers"]`; the root is empty.
type ModulePath = Vec<String>;

/// The modules of one crate, and which of them import from which.
#[derive(Debug, Default)]
struct Modules {
    /// Every module that has a file of its own.
    files: BTreeSet<ModulePath>,
    /// Names that a module re-exports (`pub use child::Name`), and the module they come from.
    reexports: BTreeMap<(ModulePath, String), ModulePath>,
    /// Paths that a module's code names, made absolute, not yet related to modules.
    references: Vec<(ModulePath, Vec<String>)>,
}

impl Modules {
    /// Reads the crate whose root file is `root`, with all modules except tests.
    fn read(root: &Path) -> Result<Modules> {
        let mut modules = Modules::default();
        modules.read_file(root, &Vec::new())?;
        Ok(modules)
    }

    fn read_file(&mut self, file: &Path, module: &ModulePath) -> Result<()> {
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let syntax =
            syn::parse_file(&text).with_context(|| format!("parsing {}", file.display()))?;
        self.files.insert(module.clone());
        let mut children = Vec::new();
        for item in &syntax.items {
            if let Item::Mod(declaration) = item
                && declaration.content.is_none()
                && !is_test(declaration)
            {
                children.push(declaration.ident.to_string());
            }
        }
        let mut reader = Reader {
            module,
            children: &children,
            found: Vec::new(),
        };
        for item in &syntax.items {
            reader.visit_item(item);
        }
        for (path, reexported) in reader.found {
            if let (true, [.., name]) = (reexported, path.as_slice()) {
                let source = path[..path.len() - 1].to_vec();
                self.reexports
                    .insert((module.clone(), name.clone()), source);
            }
            self.references.push((module.clone(), path));
        }
        for child in children {
            let mut path = module.clone();
            path.push(child.clone());
            self.read_file(&child_file(file, module.is_empty(), &child)?, &path)?;
        }
        Ok(())
    }

    /// The module that defines what `path` names, seen through re-exports.
    fn owner(&self, path: &[String]) -> ModulePath {
        let mut path = path.to_vec();
        // Each step follows one re-export; a chain of them is short.
        for _ in 0..4 {
            let length = (0..=path.len())
                .rev()
                .find(|n| self.files.contains(&path[..*n]));
            let length = length.unwrap_or(0);
            let (module, rest) = path.split_at(length);
            let source = rest
                .first()
                .and_then(|name| self.reexports.get(&(module.to_vec(), name.clone())));
            match source {
                Some(source) if source != module => {
                    path = [source.as_slice(), rest].concat();
                }
                _ => return module.to_vec(),
            }
        }
        path
    }

    /// Returns the imports of each module. Imports between a module and those below it do not count.
    fn imports(&self) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
        let mut imports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (from, path) in &self.references {
            let to = self.owner(path);
            if !from.starts_with(&to) && !to.starts_with(from) {
                imports.entry(from.clone()).or_default().insert(to);
            }
        }
        imports
    }
}

/// Returns the file of module `child`, declared in `file`.
fn child_file(file: &Path, is_root: bool, child: &str) -> Result<PathBuf> {
    let directory = file.parent().context("a file without a directory")?;
    let is_directory_module = is_root || file.file_name().is_some_and(|name| name == "mod.rs");
    let directory = match (is_directory_module, file.file_stem()) {
        (false, Some(stem)) => directory.join(stem),
        _ => directory.to_owned(),
    };
    let candidates = [
        directory.join(format!("{child}.rs")),
        directory.join(child).join("mod.rs"),
    ];
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => bail!("mod {child} of {} has no file", file.display()),
    }
}

/// Returns whether a module is compiled for tests only.
fn is_test(module: &ItemMod) -> bool {
    module.attrs.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|condition| condition == "test")
    })
}

/// Collects the paths of one file that lead to modules of the same crate.
struct Reader<'a> {
    module: &'a ModulePath,
    children: &'a [String],
    /// Absolute paths, and whether the file re-exports what they name.
    found: Vec<(Vec<String>, bool)>,
}

impl Reader<'_> {
    /// Makes a path absolute; `None`: it leads out of the crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (head, mut rest) = path.split_first()?;
        let mut base = self.module.clone();
        match head.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            name if self.children.iter().any(|child| child == name) => base.push(name.to_owned()),
            _ => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn note(&mut self, path: &[String], reexported: bool) {
        if let Some(path) = self.absolute(path) {
            self.found.push((path, reexported));
        }
    }

    fn tree(&mut self, tree: &UseTree, prefix: &mut Vec<String>, reexported: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.tree(&path.tree, prefix, reexported);
                prefix.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(tree, prefix, reexported);
                }
            }
            UseTree::Name(name) if name.ident == "self" => self.note(&prefix.clone(), false),
            UseTree::Name(name) => {
                let path = [prefix.as_slice(), &[name.ident.to_string()]].concat();
                self.note(&path, reexported);
            }
            UseTree::Rename(rename) => {
                let path = [prefix.as_slice(), &[rename.ident.to_string()]].concat();
                self.note(&path, false);
            }
            UseTree::Glob(_) => self.note(&prefix.clone(), false),
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        // Modules in line are part of the file, except tests.
        if module.content.is_some() && !is_test(module) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let reexported = !matches!(item.vis, syn::Visibility::Inherited);
        self.tree(&item.tree, &mut Vec::new(), reexported);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.note(&segments, false);
        }
        visit::visit_path(self, path);
    }
}

/// Returns the circles of imports: groups of modules of which each leads to each.
fn circles(imports: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<Vec<&ModulePath>> {
    let reachable: BTreeMap<_, _> = imports
        .keys()
        .map(|module| (module, reached_from(module, imports)))
        .collect();
    let mut circles = Vec::new();
    let mut placed = BTreeSet::new();
    for (module, reached) in &reachable {
        let is_mutual =
            |other: &&ModulePath| reached.contains(*other) && reachable[*other].contains(*module);
        let circle: Vec<_> = reachable.keys().copied().filter(is_mutual).collect();
        if circle.len() > 1 && placed.insert(circle[0]) {
            circles.push(circle);
        }
    }
    circles
}

/// Returns all modules that a module imports from, directly or through others.
fn reached_from<'a>(
    module: &'a ModulePath,
    imports: &'a BTreeMap<ModulePath, BTreeSet<ModulePath>>,
) -> BTreeSet<&'a ModulePath> {
    let mut reached = BTreeSet::new();
    let mut open = vec![module];
    while let Some(module) = open.pop() {
        for next in imports.get(module).into_iter().flatten() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

mod tests {
    use testbed::paths;

    use super::*;
    use crate::build;

    #[test]
    fn no_module_circles() {
        let crates = ["src", "crates/core/src", "crates/host/src", "testbed/src"];
        let circles: Vec<String> = crates
            .iter()
            .flat_map(|directory| {
                let root = paths::workspace().join(directory).join("lib.rs");
                let imports = Modules::read(&root).unwrap().imports();
                let names = circles(&imports).into_iter().map(|circle| {
                    let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
                    format!("{directory}: {}", names.join(", "))
                });
                names.collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(circles, Vec::<String>::new());
    }

    #[test]
    fn finds_a_circle_through_a_reexport() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("lib.rs", "mod a; mod b; mod c; pub use b::B;");
        write("a.rs", "use crate::B; pub struct A(B);");
        write("b.rs", "pub struct B(Option<Box<super::c::C>>);");
        write(
            "c.rs",
            "pub struct C; #[cfg(test)] mod tests { use crate::a::A; }",
        );
        let root = directory.path().join("lib.rs");
        assert_eq!(circles(&Modules::read(&root).unwrap().imports()).len(), 0);
        write("c.rs", "use crate::a; pub struct C(a::A);");
        let imports = Modules::read(&root).unwrap().imports();
        assert_eq!(
            circles(&imports),
            [[&["a".to_owned()], &["b".to_owned()], &["c".to_owned()]]]
        );
    }

    /// The core's dependencies, named in full: whoever adds one reads this line. None of them
    /// reads a clock, a file, a socket or the environment.
    #[test]
    fn the_core_is_pure() {
        let arguments = ["tree", "--package", "overlay-core", "--edges", "normal"];
        let output =
            build::cargo(&[&arguments[..], &["--depth", "1", "--prefix", "none"]].concat())
                .output()
                .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let names: Vec<_> = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split(' ').next())
            .collect();
        let pure = [
            "base16ct",
            "base64",
            "bytes",
            "fastrand",
            "flate2",
            "hmac",
            "ipnet",
            "litemap",
            "prost",
            "serde",
            "serde_json",
            "sha2",
            "strsim",
            "thiserror",
        ];
        assert_eq!(names, pure);
    }
}
