// Queries and keys turned by their positions, keys and values appended to their caches; pairs are half of the turned numbers apart

@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(1) var<storage, read> rotation: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> q_turned: array<f32>;
@group(0) @binding(3) var<storage, read_write> k_cache: array<f32>;
@group(0) @binding(4) var<storage, read_write> v_cache: array<f32>;
struct parameters {
    m: u32,
    rotary: u32,
    capacity: u32,
    first_kv_head: u32,
    own_kv_heads: u32,
    start: u32,
    magnitude: f32,
}
@group(0) @binding(5) var<uniform> params: parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
        @builtin(num_workgroups) num_workgroups: vec3<u32>,
        @builtin(local_invocation_index) local_index: u32) {
    let i = (workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z)) * 64u + local_index;
    let rows = 14u + 2u * params.own_kv_heads;
    let pair = i % 32u;
    let row = i / 32u % rows;
    let token = i / 32u / rows;
    if (token >= params.m) {
        return;
    }
    let is_query = row < 14u;
    let is_key = !is_query && row < 14u + params.own_kv_heads;
    let kv_head = (row - 14u) % params.own_kv_heads;
    let turns = pair < params.rotary / 2u;
    let first = select(2u * pair, pair, turns);
    let second = select(first + 1u, pair + params.rotary / 2u, turns);
    var a: f32 = 0.0;
    var b: f32 = 0.0;
    let key = 14u + params.first_kv_head + kv_head;
    let at = (token * 18u + select(select(key + 2u, key, is_key), row, is_query)) * 64u;
    a = qkv[at + first];
    b = qkv[at + second];
    let position = params.start + token;
    if (turns && (is_query || is_key)) {
        // The angle in 2^-32 turns, as a number of quarters and the rest, from -1/8 to 1/8 of a turn.
        let speed = rotation[pair];
        let angle = position * speed.x + u32(f32(position) * bitcast<f32>(speed.y));
        let quarter = (angle + 536870912u) >> 30u;
        let rest = f32(bitcast<i32>(angle - (quarter << 30u))) * 1.4629181e-09;
        let square = rest * rest;
        let sine = rest + rest * (square * (-0.16666667 + square * (0.008333334 + square * (-0.0001984127 + square * 2.7557319e-06))));
        let cosine = 1.0 + square * (-0.5 + square * (0.041666668 + square * (-0.0013888889 + square * 2.4801588e-05)));
        let odd = (quarter & 1u) == 1u;
        let up = select(sine, cosine, odd) * select(params.magnitude, -params.magnitude, (quarter & 2u) == 2u);
        let along = select(cosine, sine, odd) * select(params.magnitude, -params.magnitude, ((quarter + 1u) & 2u) == 2u);
        let turned = a * along - b * up;
        b = a * up + b * along;
        a = turned;
    }
    if (is_query) {
        if (params.first_kv_head == 0u) {
            let at_1 = (token * 14u + row) * 64u;
            q_turned[at_1 + first] = a;
            q_turned[at_1 + second] = b;
        }
    } else {
        if (position < params.capacity) {
            let entry = kv_head * params.capacity + position;
            if (is_key) {
                let at_2 = entry * 64u;
                k_cache[at_2 + first] = a;
                k_cache[at_2 + second] = b;
            } else {
                let at_3 = entry * 64u;
                v_cache[at_3 + first] = a;
                v_cache[at_3 + second] = b;
            }
        }
    }
}
