//! The README pages: every command that needs no cluster is run, and brings what the page says.
//!
//! A page's `sh` blocks are scripts. One with a command for a cluster is read by the shell and not run; every other one is run from a folder
//! that has what the repository has, with ports that are free. What follows `#` on a line is in what its command prints; a number alone is
//! the status of the response.

use crate::files::{from_environment, module, root, scratch, yaml_files};
use crate::images::Registry;
use crate::server::free_port;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Programs that talk to a cluster.
const CLUSTER: [&str; 3] = ["kubectl ", "istioctl ", "helm "];

/// The pages' folders, and how many of their blocks are run and are not.
const PAGES: [(&str, usize, usize); 3] = [("attach", 7, 0), ("istio", 1, 4), ("gateway", 1, 4)];

fn page(folder: &str) -> String {
    fs::read_to_string(root().join("envoy").join(folder).join("README.md")).unwrap()
}

fn blocks(page: &str) -> Vec<&str> {
    page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn needs_cluster(block: &str) -> bool {
    CLUSTER.iter().any(|program| block.contains(program))
}

/// A folder that has what the repository has, with these texts in place of others in everything under `envoy/`.
fn workspace(name: &str, replaced: &[(String, String)]) -> PathBuf {
    let folder = scratch(name);
    for entry in ["Makefile", "Cargo.toml", ".make"] {
        symlink(root().join(entry), folder.join(entry)).unwrap();
    }
    fs::create_dir_all(folder.join("target/log")).unwrap();
    // All that was built, whatever there are images of.
    for built in fs::read_dir(module().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()) {
        if built.extension().is_some_and(|extension| extension == "wasm") {
            symlink(&built, folder.join("target").join(built.file_name().unwrap())).unwrap();
        }
    }
    fn copy(from: &Path, to: &Path, replaced: &[(String, String)]) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
            let new = to.join(entry.file_name().unwrap());
            if entry.is_dir() {
                copy(&entry, &new, replaced);
            } else {
                fs::write(new, replace(&fs::read_to_string(&entry).unwrap(), replaced)).unwrap();
            }
        }
    }
    copy(&root().join("envoy"), &folder.join("envoy"), replaced);
    folder
}

fn replace(text: &str, replaced: &[(String, String)]) -> String {
    replaced.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
}

/// The block as a script that ends at the first line that does not bring what it should, and says so.
fn script(block: &str) -> String {
    let mut script = "set -euo pipefail
# What is built is what is tested.
make() { command make --no-print-directory -o build \"$@\"; }
accepts() { for _ in {1..600}; do (: <\"/dev/tcp/127.0.0.1/$1\") 2>/dev/null && return; sleep 0.05; done; echo \"nobody listens on $1\"; exit 1; }
"
    .to_owned();
    for line in block.lines() {
        match line.split_once("    # ") {
            None => script += &format!("{line}\n"),
            Some((command, expected)) => {
                let expected = if expected.len() == 3 && expected.parse::<u16>().is_ok() {
                    format!("HTTP/1.1 {expected} ")
                } else {
                    expected.to_owned()
                };
                let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
                script += &format!(
                    "printed=$({command} 2>&1) || {{ echo \"$printed\"; echo failed: {quoted_command}; exit 1; }}
[[ $printed == *{quoted_expected}* ]] || {{ echo {quoted_command}; echo \"$printed\"; echo does not have {quoted_expected}; exit 1; }}
",
                    quoted_command = quoted(command),
                    quoted_expected = quoted(&expected),
                );
            }
        }
        // A reader is slower than a program that starts.
        if line.ends_with('&') {
            script += &format!("accepts {}\n", if line.contains("http.server") { "8000" } else { "10000" });
        }
    }
    script
}

/// A shell with all that it started, ended with its owner.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        // Its group is its own; what it left behind goes with it.
        let _ = Command::new("kill").arg("--").arg(format!("-{}", self.0.id())).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

fn run(page: &str, number: usize, block: &str) {
    let ports: Vec<(String, String)> =
        ["10000", "9901", "8000"].iter().map(|port| ((*port).to_owned(), free_port().to_string())).collect();
    let name = format!("page-{page}-{number}");
    let registry_folder = scratch(&format!("{name}-registry"));
    let registry = Registry::start(&registry_folder);
    let mut replaced = ports;
    let host = registry.image("").trim_end_matches('/').to_owned();
    replaced.push(("registry.example.com".to_owned(), host.clone()));
    let folder = workspace(&name, &replaced);
    let registries = registry_folder.join("registries.conf");
    fs::write(&registries, format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n")).unwrap();
    let shims = folder.join("bin");
    fs::create_dir_all(&shims).unwrap();
    let shim = |name: &str, command: &str| {
        let file = shims.join(name);
        fs::write(&file, format!("#!/bin/sh\nPATH=${{PATH#*:}}\nexec {command} \"$@\"\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    // Several run at a time: none of them may look for another one to take over from.
    shim("envoy", &format!("'{}' --disable-hot-restart", from_environment("ENVOY")));
    // The one thing that a registry on loopback has not: a certificate.
    shim("skopeo", &format!("skopeo --registries-conf '{}'", registries.display()));
    let path = format!("{}:{}", shims.display(), std::env::var("PATH").unwrap());
    let said = folder.join("said");
    let output = fs::File::create(&said).unwrap();
    let mut shell = Command::new("bash");
    shell
        .current_dir(&folder)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .process_group(0);
    let mut shell = Shell(shell.spawn().unwrap());
    shell.0.stdin.take().unwrap().write_all(replace(&script(block), &replaced).as_bytes()).unwrap();
    let status = shell.0.wait().unwrap();
    let said = fs::read_to_string(&said).unwrap();
    assert!(status.success(), "{page}, block {number}: {status}\n{block}\n{said}");
    drop(shell);
    drop(registry);
    fs::remove_dir_all(folder).unwrap();
    fs::remove_dir_all(registry_folder).unwrap();
}

fn assert_page(name: &str) {
    let (_, runnable, of_cluster) = PAGES.iter().find(|(page, ..)| *page == name).unwrap();
    let page = page(name);
    let blocks = blocks(&page);
    let (of_clusters, own): (Vec<&str>, Vec<&str>) = blocks.iter().partition(|block| needs_cluster(block));
    assert_eq!((own.len(), of_clusters.len()), (*runnable, *of_cluster), "{name}");
    for block in of_clusters {
        let read = Command::new("bash").args(["-n", "-c", block]).output().unwrap();
        assert!(read.status.success() && read.stderr.is_empty(), "{name}: {read:?}\n{block}");
    }
    for (number, block) in own.into_iter().enumerate() {
        run(name, number, block);
    }
}

#[test]
fn the_commands_of_the_page_for_an_envoy_of_ones_own_bring_what_it_says() {
    assert_page("attach");
}

#[test]
fn the_commands_of_the_page_for_istio_bring_what_it_says() {
    assert_page("istio");
}

#[test]
fn the_commands_of_the_page_for_envoy_gateway_bring_what_it_says() {
    assert_page("gateway");
}

#[test]
fn every_page_tells_of_every_file_beside_it_and_its_links_lead_somewhere() {
    for (folder, ..) in PAGES {
        let page = page(folder);
        let links: Vec<&str> = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
        for link in &links {
            let file = link.split('#').next().unwrap();
            assert!(root().join("envoy").join(folder).join(file).exists(), "{folder}: {link}");
        }
        for file in yaml_files().iter().filter_map(|file| file.strip_prefix(&format!("{folder}/"))) {
            assert!(links.contains(&file), "{folder}: {file}");
        }
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for (folder, ..) in PAGES {
        assert!(readme.contains(&format!("](envoy/{folder}/README.md)")), "{folder}");
    }
}

/// A page that fails is seen: the check is not one that cannot.
#[test]
fn a_command_that_brings_something_else_fails_its_page() {
    let outcome = |block: &str| {
        let mut bash = Command::new("bash");
        let mut child = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script(block).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(outcome("echo one    # on\nx=$(echo 'HTTP/1.1 200 OK')\necho \"$x\"    # 200\n"), (true, String::new()));
    assert_eq!(outcome("echo one    # two\n"), (false, "echo one\none\ndoes not have two\n".to_owned()));
    assert!(!outcome("echo 'HTTP/1.1 429 Too Many Requests'    # 200\n").0);
    assert!(!outcome("false\n").0);
    assert!(!outcome("false    # \n").0);
}
