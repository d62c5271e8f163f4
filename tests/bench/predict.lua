-- One row of 30 features per request; values vary, and so does the order of the keys.
-- The result is one line of JSON on standard output.

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

local bodies, next_body = {}, 0

local function shuffled(parts)
   for last = #parts, 2, -1 do
      local other = math.random(last)
      parts[last], parts[other] = parts[other], parts[last]
   end
   return "{" .. table.concat(parts, ",") .. "}"
end

function init()
   math.randomseed(7)
   for body = 1, 512 do
      local values = {}
      for feature = 1, 30 do values[feature] = string.format("%.4f", math.random() * 30) end
      local tensor = shuffled({
         '"name":"input"', '"shape":[1,30]', '"datatype":"FP32"', '"data":[' .. table.concat(values, ",") .. ']'
      })
      bodies[body] = wrk.format(nil, nil, nil, shuffled({ '"id":"' .. body .. '"', '"inputs":[' .. tensor .. ']' }))
   end
end

function request()
   next_body = next_body % #bodies + 1
   return bodies[next_body]
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
