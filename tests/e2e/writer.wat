;; Another plugin, which shares the vm_id and so the shared data: on every request it writes keys that a limiter might use too,
;; unconditionally and with another value each time, and counts its writes in the metric writer_writes.
(module
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 16) "writer_writes")
  ;; The keys, each ended by a NUL; the last by two.
  (data (i32.const 64) "writer/count\00allowance\00allowance/\00allowance/1\00allowance/meta\00meta\00quota\00table\00default\00default/meta\00acme\00k\00\00")
  ;; 32: the metric, 512: the value, which ends in a number that grows
  (data (i32.const 512) "\01\02\03\04not a record\00\00\00\00\00\00\00\00")
  (global $top (mut i32) (i32.const 4096))

  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get $size)))
    (local.get $at))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))

  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $define (i32.const 0) (i32.const 16) (i32.const 13) (i32.const 32)))
    (i32.const 1))

  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $key i32) (local $end i32)
    (i64.store (i32.const 528) (i64.add (i64.load (i32.const 528)) (i64.const 1)))
    (local.set $key (i32.const 64))
    (loop $keys
      (local.set $end (local.get $key))
      (block $ended
        (loop $bytes
          (br_if $ended (i32.eqz (i32.load8_u (local.get $end))))
          (local.set $end (i32.add (local.get $end) (i32.const 1)))
          (br $bytes)))
      (if (i32.gt_u (local.get $end) (local.get $key))
        (then
          (if (i32.eqz (call $set (local.get $key) (i32.sub (local.get $end) (local.get $key)) (i32.const 512) (i32.const 24) (i32.const 0)))
            (then (drop (call $increment (i32.load (i32.const 32)) (i64.const 1)))))
          (local.set $key (i32.add (local.get $end) (i32.const 1)))
          (br $keys))))
    (i32.const 0)))
