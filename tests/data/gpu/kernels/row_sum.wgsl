enable subgroups;
requires subgroup_id;
// y[row] = sum of w[row, :], a workgroup for each row; [rows, k4] vectors of 4
struct Parameters { rows: u32, first_row: u32, k4: u32 }
@group(0) @binding(0) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> bias: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(3) var<uniform> p: Parameters;
var<workgroup> partial: array<u32, 32>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32) {
    let row = (id.z * grid.y + id.y) * grid.x + id.x;
    let valid = row < p.rows;
    var sum = 0u;
    if (valid) {
        for (var i = local.x; i < p.k4; i += 32u) {
            let v = w[row * p.k4 + i];
            sum += v.x + v.y + v.z + v.w;
        }
    }
    let of_subgroup = subgroupAdd(sum);
    if (lane == 0u) {
        partial[subgroup] = of_subgroup;
    }
    workgroupBarrier();
    if (valid && local.x == 0u) {
        var all = bias[p.first_row + row];
        for (var i = 0u; i < subgroups; i++) {
            all += partial[i];
        }
        y[row] = all;
    }
}
