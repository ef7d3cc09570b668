;; What a request takes of the proxy under Allowance with three limits, asked for by hand and without looking at any of it: the callbacks,
;; all headers, the clock, one read and one write of a record of that size, one metric; of a denial, which is remembered, the metric, the
;; note for access logs and the reply, word for word. Whatever is decided, and told in another dialect or with other numbers, comes on top.
(module
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_get_header_map_pairs" (func $headers (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $clock (param i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $note (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))

  ;; 0: time, 8: the metric, 16 and 20: headers, 24 and 28: record, 32: its version, 1024: the new record; 4096: what the proxy returns
  (memory (export "memory") 4)
  (data (i32.const 64) "by_hand_requests_total")
  (data (i32.const 96) "allowance1_of_acme_now")
  (data (i32.const 128) "allowance")
  ;; TEXTS
  (global $top (mut i32) (i32.const 4096))
  (global $denies i32 (i32.const DENIES))
  (global $exhausted (mut i32) (i32.const 0))

  (func (export "proxy_abi_version_0_2_1"))

  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $top))
    (global.set $top (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (local.get $at))

  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (i32.eqz (call $define (i32.const 0) (i32.const 64) (i32.const 22) (i32.const 8))))

  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))

  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $version i32)
    (global.set $top (i32.const 4096))
    (drop (call $headers (i32.const 0) (i32.const 16) (i32.const 20)))
    (drop (call $clock (i32.const 0)))
    (if (global.get $exhausted)
      (then
        (drop (call $increment (i32.load (i32.const 8)) (i64.const 1)))
        (drop (call $note (i32.const 128) (i32.const 9) NOTE))
        (drop (call $reply (i32.const 429) DETAILS BODY FIELDS (i32.const 8)))
        (return (i32.const 1))))
    (global.set $exhausted (global.get $denies))
    (loop $again
      ;; A version that nothing has: an absent record is created only if it still is absent.
      (local.set $version (i32.const -1))
      (if (i32.eqz (call $get (i32.const 96) (i32.const 22) (i32.const 24) (i32.const 28) (i32.const 32)))
        (then (local.set $version (i32.load (i32.const 32)))))
      (i64.store (i32.const 1024) (i64.load (i32.const 0)))
      ;; 8: somebody else has written in between.
      (br_if $again (i32.eq (i32.const 8)
        (call $set (i32.const 96) (i32.const 22) (i32.const 1024) (i32.const 128) (local.get $version)))))
    (drop (call $increment (i32.load (i32.const 8)) (i64.const 1)))
    (i32.const 0)))
