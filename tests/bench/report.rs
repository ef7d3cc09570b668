//! The table, for people and for programs.

use serde_json::{Value, json};

use crate::arena::Row;
use crate::counts::{self, Counted};
use crate::extent::Extent;
use crate::figures::Spread;
use crate::folder;
use crate::growth::Line;
use crate::load::{Protocol, RATE};
use crate::machine::Machine;
use crate::variant;

/// A row with what follows from it and from the others of its round.
struct Compared<'a> {
    row: &'a Row,
    cpu: Spread,
    added: Option<Spread>,
    /// How many times the increase of the floor module, the straightforward module, the native filter.
    times: [Option<Spread>; 3],
}

const PEERS: [&str; 3] = [variant::FLOOR, variant::STRAIGHTFORWARD, variant::NATIVE];

/// Prints what was measured on, and the table of variants.
pub(crate) fn print_table(machine: &Machine, extent: &Extent, rows: &[Row]) {
    println!(
        "{}, {} cores, Linux {}, Envoy {}, {}, {}.\n",
        machine.cpu, machine.cores, machine.kernel, machine.envoy, machine.h2load, machine.date
    );
    println!("| HTTP | Filter | CPU µs | added µs | × floor | × straightforward | × native | p50 µs | p99 µs |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for line in rows.iter().map(|row| compare(row, rows)) {
        let [floor, straightforward, native] = line.times.map(|times| cell(times, 2, false));
        println!(
            "| {} | {} | {} | {} | {floor} | {straightforward} | {native} | {:.0} | {:.0} |",
            line.row.protocol.name().trim_start_matches("HTTP/"),
            line.row.name,
            cell(Some(line.cpu), 1, true),
            cell(line.added, 1, true),
            line.row.p50,
            line.row.p99,
        );
    }
    println!(
        "\nProcessor time of the Envoy process (one worker, 16 requests under way, the route answers by itself) per request; \"added\" is what it \
         is above no filter in the same round; \"×\" are ratios of what is added. Medians of {} rounds of {} requests, (quartiles). \
         Latencies at {RATE} requests per second.",
        extent.sets * extent.rounds,
        extent.requests
    );
}

/// Writes everything to `target/bench.json`.
pub(crate) fn save(machine: &Machine, extent: &Extent, rows: &[Row], growth: &[Line]) {
    let variants: Vec<Value> = rows.iter().map(|row| value(&compare(row, rows))).collect();
    let json = json!({
        "machine": machine,
        "rounds": extent.sets * extent.rounds,
        "requests": extent.requests,
        "variants": variants,
        "growth_rounds": extent.growth_sets * extent.growth_rounds,
        "growth_requests": extent.growth_requests,
        "growth": growth.iter().map(grown).collect::<Vec<_>>(),
    });
    write("bench.json", &json);
}

/// Prints how the cost grows.
pub(crate) fn print_growth(extent: &Extent, growth: &[Line]) {
    println!("\n| What grows | Size | CPU µs | × first | Envoy MiB | B each | ready after s | a VM's ms | conflicts |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for line in growth {
        println!(
            "| {} | {} | {} | {} | {:.0} | {} | {:.2} | {} | {} |",
            line.what,
            line.label,
            cell(spread(&line.cpu), 1, true),
            cell(spread(&line.times_first), 2, false),
            line.rss_kib as f64 / 1024.0,
            line.bytes_each.map_or_else(String::new, |bytes| format!("{bytes:.0}")),
            line.start.ready.as_secs_f64(),
            line.start.vm.map_or_else(String::new, |vm| format!("{:.0}", vm.as_secs_f64() * 1e3)),
            line.conflicts.map_or_else(String::new, |conflicts| format!("{conflicts:.4}")),
        );
    }
    println!(
        "\nHTTP/2, the key in the query. Medians of {} rounds of {} requests, (quartiles); \"× first\" is the median of each round's ratio to the first \
         size. \"B each\": what Envoy's resident memory grows by, per thing more, with all its VMs (one worker: two). \"Ready after\": from the \
         start of Envoy until it serves, and \"a VM\": processor time of a worker until then, both above an empty configuration. \
         Conflicts: lost races per decision.",
        extent.growth_sets * extent.growth_rounds,
        extent.growth_requests
    );
}

/// Prints what requests execute, and writes it to `target/bench-counts.json`.
pub(crate) fn counted(machine: &Machine, all: &[Counted]) {
    println!("Envoy {}, {}, {}.\n", machine.envoy, machine.h2load, machine.date);
    println!(
        "| HTTP | Filter | instructions | added | × floor | × straightforward | code lines added | × floor | × straightforward \
         | data lines added | × floor | × straightforward |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut values = Vec::new();
    for line in all {
        let of = |id| all.iter().find(|other| other.id == id && other.protocol == line.protocol);
        let none = of(variant::NONE).expect("no filter is counted").counts;
        let added =
            |of: &Counted| -> Vec<f64> { of.counts.iter().zip(&none).map(|(with, none)| with - none).collect() };
        let peers = [variant::FLOOR, variant::STRAIGHTFORWARD].map(|id| added(of(id).expect("every peer is counted")));
        let cells: String = added(line)
            .iter()
            .enumerate()
            .map(|(place, added)| {
                format!(" | {added:.0} | {:.2} | {:.2}", added / peers[0][place], added / peers[1][place])
            })
            .collect();
        let cells = if line.id == variant::NONE { " | ".repeat(9) } else { cells };
        println!(
            "| {} | {} | {:.0}{cells} |",
            line.protocol.name().trim_start_matches("HTTP/"),
            line.name,
            line.counts[0]
        );
        let [instructions, code_lines, data_lines] = line.counts;
        values.push(json!({
            "id": line.id, "name": line.name, "protocol": line.protocol.name(),
            "instructions": instructions, "code_lines": code_lines, "data_lines": data_lines,
        }));
    }
    println!(
        "\nPer request, of the Envoy process (one worker, 16 requests under way, the route answers by itself): instructions, and lines of 64 bytes of \
         code and data that are not in a first cache of 32 KiB when they are needed, by callgrind over {} requests. \"Added\" is what it is above no \
         filter, \"×\" are ratios of that.",
        counts::REQUESTS
    );
    let json = json!({"machine": machine, "requests": counts::REQUESTS, "variants": values});
    write("bench-counts.json", &json);
}

/// Into `target`.
fn write(name: &str, json: &Value) {
    std::fs::write(folder().with_file_name(name), format!("{json:#}\n")).expect("target is writable");
}

fn grown(line: &Line) -> Value {
    json!({
        "what": line.what,
        "size": line.label,
        "cpu_us": spread(&line.cpu),
        "times_first": spread(&line.times_first),
        "rss_kib": line.rss_kib,
        "bytes_each": line.bytes_each,
        "ready_s": line.start.ready.as_secs_f64(),
        "vm_s": line.start.vm.map(|vm| vm.as_secs_f64()),
        "conflicts_per_decision": line.conflicts,
        "cpu_us_by_round": line.cpu,
    })
}

fn spread(figures: &[f64]) -> Option<Spread> {
    (!figures.is_empty()).then(|| Spread::of(figures.iter().copied()))
}

fn compare<'a>(row: &'a Row, rows: &[Row]) -> Compared<'a> {
    let none = find(rows, variant::NONE, row.protocol);
    let increase = |row: &Row| row.cpu.iter().zip(&none.cpu).map(|(with, without)| with - without).collect::<Vec<_>>();
    let added = increase(row);
    let is_none = row.id == variant::NONE;
    let times = PEERS.map(|peer| {
        let peer = increase(find(rows, peer, row.protocol));
        (!is_none).then(|| Spread::of(added.iter().zip(&peer).map(|(added, peer)| added / peer)))
    });
    Compared {
        row,
        cpu: Spread::of(row.cpu.iter().copied()),
        added: (!is_none).then(|| Spread::of(added.iter().copied())),
        times,
    }
}

fn find<'a>(rows: &'a [Row], id: &str, protocol: Protocol) -> &'a Row {
    rows.iter().find(|row| row.id == id && row.protocol == protocol).expect("every peer is measured")
}

fn cell(spread: Option<Spread>, digits: usize, quartiles: bool) -> String {
    match spread {
        None => String::new(),
        Some(Spread { median, low, high }) if quartiles => {
            format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
        }
        Some(Spread { median, .. }) => format!("{median:.digits$}"),
    }
}

fn value(line: &Compared<'_>) -> Value {
    json!({
        "id": line.row.id,
        "name": line.row.name,
        "protocol": line.row.protocol.name(),
        "cpu_us": line.cpu,
        "added_us": line.added,
        "times_floor": line.times[0],
        "times_straightforward": line.times[1],
        "times_native": line.times[2],
        "p50_us": line.row.p50,
        "p99_us": line.row.p99,
        "cpu_us_by_round": line.row.cpu,
    })
}
