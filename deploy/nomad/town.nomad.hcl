# Not run by the project's CI: the keys are those of Nomad's documentation.
job "town" {
  type = "service"
  group "town" {
    count = 1
    # On a client that is lost for longer the town ends by itself, so that no two copies act.
    disconnect {
      stop_on_client_after = "60s"
    }
    network {
      port "api" { to = 8080 }
      port "probes" { to = 8081 }
    }
    # A directory of the client, which user 65532 or group 0 may write to.
    volume "state" {
      type   = "host"
      source = "town-state"
    }
    task "bulkhead" {
      driver      = "docker"
      kill_signal = "SIGTERM"
      # Above limits.drain_ms (25 s), and the most that a client allows unless its max_kill_timeout is raised.
      kill_timeout = "30s"
      config {
        image           = "bulkhead:0.1.0"
        ports           = ["api", "probes"]
        readonly_rootfs = true
        cap_drop        = ["ALL"]
        security_opt    = ["no-new-privileges"]
        pids_limit      = 512
      }
      volume_mount {
        volume      = "state"
        destination = "/var/lib/bulkhead"
      }
      template {
        destination = "secrets/town.env"
        env         = true
        data        = "BULKHEAD_CONTROL_TOKEN={{ with nomadVar \"nomad/jobs/town\" }}{{ .control_token }}{{ end }}"
      }
      service {
        provider = "nomad"
        port     = "probes"
        check {
          type     = "http"
          path     = "/readyz"
          interval = "10s"
          timeout  = "2s"
        }
      }
      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
