(component
  (type (;0;) (func (param "text" string)))
  (import "log" (func (;0;) (type 0)))
  (type (;1;) (func (result u32)))
  (import "now" (func (;1;) (type 1)))
  (core module (;0;)
    (type $log (;0;) (func (param i32 i32)))
    (table (;0;) 1 1 funcref)
    (export "$imports" (table 0))
    (export "0" (func 0))
    (func (;0;) (type $log) (param i32 i32)
      local.get 0
      local.get 1
      i32.const 0
      call_indirect (type $log)
    )
  )
  (core module (;1;)
    (type (;0;) (func (param i32 i32)))
    (import "" "0" (func $log (;0;) (type 0) (param i32 i32)))
    (import "" "$imports" (table (;0;) 1 1 funcref))
    (import "" "epoch" (global (;0;) (mut i32)))
    (elem (;0;) (i32.const 0) func $log)
  )
  (core instance (;0;) (instantiate 0))
  (alias core export 0 "0" (core func (;0;)))
  (core func (;1;) (canon lower (func 1)))
  (core module (;2;)
    (type (;0;) (func (param i32 i32)))
    (type (;1;) (func (result i32)))
    (type (;2;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;3;) (func))
    (type (;4;) (func (param i32 i32 i32) (result i32)))
    (type (;5;) (func (param i32 i32 i32 i32 i32)))
    (type (;6;) (func (param i32)))
    (import "" "0" (func (;0;) (type 0) (param i32 i32)))
    (import "" "1" (func (;1;) (type 1) (result i32)))
    (table (;0;) 4 funcref)
    (memory (;0;) 1)
    (global (;0;) (mut i32) i32.const 1024)
    (global (;1;) (mut i32) i32.const 7)
    (export "memory" (memory 0))
    (export "realloc" (func 2))
    (export "epoch" (global 1))
    (export "run" (func 6))
    (export "realloc 40" (func 8))
    (export "after" (func 7))
    (elem (;0;) (i32.const 2) func $say 0)
    (func (;2;) (type 2) (param i32 i32 i32 i32) (result i32)
      i32.const 64
    )
    (func $say (;3;) (type 3)
      global.get 0
      call 1
      i32.sub
      global.set 0
      i32.const 16
      i32.const 36
      i32.load
      call 0
    )
    (func (;4;) (type 4) (param i32 i32 i32) (result i32)
      i32.const 0
    )
    (func (;5;) (type 5) (param i32 i32 i32 i32 i32))
    (func (;6;) (type 1) (result i32)
      call $say
      i32.const 1
      i32.const 2
      i32.const 3
      call 9
      drop
      global.get 1
      call 1
      i32.add
    )
    (func (;7;) (type 6) (param i32))
    (func (;8;) (type 2) (param i32 i32 i32 i32) (result i32)
      i32.const 128
    )
    (func (;9;) (type 4) (param i32 i32 i32) (result i32)
      (local i32)
      local.get 0
      local.get 1
      local.get 2
      call 4
      local.set 3
      local.get 2
      i32.load
      if ;; label = @1
        local.get 0
        local.get 2
        i32.load
        local.get 3
        i32.const 1
        i32.const 1
        call 5
      end
      local.get 3
    )
    (data (;0;) (i32.const 16) "hello")
    (data (;1;) (i32.const 36) "\05\00\00\00")
  )
  (core instance (;1;)
    (export "0" (func 0))
    (export "1" (func 1))
  )
  (core instance (;2;) (instantiate 2
      (with "" (instance 1))
    )
  )
  (alias core export 2 "memory" (core memory (;0;)))
  (alias core export 2 "realloc" (core func (;2;)))
  (alias core export 2 "epoch" (core global (;0;)))
  (alias core export 2 "run" (core func (;3;)))
  (alias core export 2 "realloc 40" (core func (;4;)))
  (alias core export 2 "after" (core func (;5;)))
  (core func (;6;) (canon lower (func 0) (memory 0) (realloc 2)))
  (alias core export 0 "$imports" (core table (;0;)))
  (core instance (;3;)
    (export "0" (func 6))
    (export "epoch" (global 0))
    (export "$imports" (table 0))
  )
  (core instance (;4;) (instantiate 1
      (with "" (instance 3))
    )
  )
  (type (;2;) (func (result string)))
  (func (;2;) (type 2) (canon lift (core func 3) (memory 0) (realloc 4) (post-return 5)))
  (export (;3;) "run" (func 2))
)
