;; The floor of what counting in a proxy's shared data costs: for each request with an API key one header, the clock, one read, one
;; write that loses to nobody, one metric. No decision, no answer, no callback that is not needed, memory for returned values at fixed
;; places. A counter holds its window's number and what was counted in it, and is made as long as it is to be.
(module
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $clock (param i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))

  ;; 0: time, 8: the metric, 16 and 20: the header whose value is the key, 24 and 28: value, 32: its version, 40: the new value
  (memory (export "memory") 4)
  (data (i32.const 64) "HEADER")
  (data (i32.const 80) "floor_requests_total")
  ;; Ends where the header will begin, so that both together are the key.
  (data (i32.const 122) "floor/")
  (global $top (mut i32) (i32.const 128))

  (func (export "proxy_abi_version_0_2_1"))

  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $top))
    (global.set $top (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (local.get $at))

  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (i32.eqz (call $define (i32.const 0) (i32.const 80) (i32.const 20) (i32.const 8))))

  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $length i32) (local $window i64) (local $used i64) (local $version i32)
    (global.set $top (i32.const 128))
    (if (call $header (i32.const 0) (i32.const 64) (i32.const LENGTH) (i32.const 16) (i32.const 20)) (then (return (i32.const 0))))
    (local.set $length (i32.add (i32.load (i32.const 20)) (i32.const 6)))
    (drop (call $clock (i32.const 0)))
    (local.set $window (i64.div_u (i64.load (i32.const 0)) (i64.const 60000000000)))
    (loop $again
      (local.set $used (i64.const 0))
      ;; A version that nothing has: absent counters are created only if they still are absent.
      (local.set $version (i32.const -1))
      (if (i32.eqz (call $get (i32.const 122) (local.get $length) (i32.const 24) (i32.const 28) (i32.const 32)))
        (then
          (local.set $version (i32.load (i32.const 32)))
          (if (i64.eq (i64.load (i32.load (i32.const 24))) (local.get $window))
            (then (local.set $used (i64.load offset=8 (i32.load (i32.const 24))))))))
      (i64.store (i32.const 40) (local.get $window))
      (i64.store (i32.const 48) (i64.add (local.get $used) (i64.const 1)))
      ;; 8: somebody else has written in between.
      (br_if $again (i32.eq (i32.const 8)
        (call $set (i32.const 122) (local.get $length) (i32.const 40) (i32.const VALUE) (local.get $version)))))
    (drop (call $increment (i32.load (i32.const 8)) (i64.const 1)))
    (i32.const 0)))
