//! Every store returns all records that it was given, in order, with their values.

use super::*;

const COUNT: u32 = 1000;

#[test]
fn every_store_returns_the_records_it_was_given() {
    let all = records(COUNT, 7);
    let (loaded, single) = all.split_at(all.len() - 3);
    let random = shuffled(COUNT - 3, 8);
    for kind in Kind::ALL {
        for order in [Order::Sorted, Order::Random] {
            let folder = tempfile::tempdir().unwrap();
            let store = kind.create(folder.path()).unwrap();
            match order {
                Order::Sorted => store.load(&mut loaded.iter(), order).unwrap(),
                Order::Random => {
                    let picked = random.iter().map(|&number| &loaded[number as usize]);
                    store.load(&mut { picked }, order).unwrap();
                }
            }
            for record in single {
                store.insert(record).unwrap();
            }
            check_content(kind, &*store, &all);
            assert!(size_bytes(folder.path()).unwrap() > u64::from(COUNT) * 62, "{kind:?}");
        }
    }
}

fn check_content(kind: Kind, store: &dyn Store, all: &[Record]) {
    let reader = store.reader().unwrap();
    for record in all {
        assert!(reader.has(record).unwrap(), "{kind:?} has {}", record.identity());
    }
    let mut other = all[0].clone();
    other.stored.record.length += 1;
    other.value[40] ^= 1;
    assert!(!reader.has(&other).unwrap(), "{kind:?} compares values");
    let missing = &records(1, 9)[0];
    assert!(!reader.has(missing).unwrap(), "{kind:?} lacks a record that it was not given");
    let mut expected = all.iter();
    reader
        .scan(&mut |entry| {
            let record = expected.next().expect("no additional record");
            assert!(entry.is(record), "{kind:?} visits {} in order", record.identity());
        })
        .unwrap();
    assert_eq!(expected.len(), 0, "{kind:?} visits all records");
}

#[test]
fn versions_are_known() {
    for kind in Kind::ALL {
        let version = kind.version();
        assert!(version.split('.').count() == 3, "{kind:?}: {version}");
    }
}

#[test]
fn a_run_measures_every_case_of_every_store() {
    let folder = tempfile::tempdir().unwrap();
    let stores = vec![Kind::Redb, Kind::Ar7];
    let plan = Plan { records: 50, rounds: 2, single_inserts: 3, stores };
    let mut seen = 0;
    let report = run(&plan, folder.path(), &mut |_| seen += 1).unwrap();
    assert_eq!(report.measures.len(), seen);
    let cases: Vec<_> =
        report.measures.iter().map(|found| (found.store, found.case, found.threads)).collect();
    let of_one = |store| {
        [
            (store, "load_random", 1),
            (store, "size_random", 1),
            (store, "load_sorted", 1),
            (store, "size_sorted", 1),
            (store, "get", 1),
            (store, "get", 2),
            (store, "insert_durable", 1),
            (store, "scan", 1),
        ]
    };
    assert_eq!(cases, [of_one("redb"), of_one("ar7")].concat().repeat(2));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files are removed");
}
