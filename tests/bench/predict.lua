-- Posts the bodies of a file that tests/bench/bodies.py wrote, one after the other: wrk -s predict.lua URL FILE
-- The result is one line of JSON on standard output.

wrk.method = "POST"

local requests, next_request = {}, 0

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   for line in file:lines() do
      local json_size, size = line:match("^(%d+) (%d+)$")
      local headers = { ["Content-Type"] = "application/json" }
      if json_size ~= "0" then
         headers = { ["Content-Type"] = "application/octet-stream", ["Inference-Header-Content-Length"] = json_size }
      end
      requests[#requests + 1] = wrk.format(nil, nil, headers, file:read(tonumber(size)))
   end
   file:close()
end

function request()
   next_request = next_request % #requests + 1
   return requests[next_request]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests":%d,"seconds":%.6f,"errors":%d,"p50":%.3f,"p99":%.3f}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
   ))
end
