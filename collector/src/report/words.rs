//! Every word of a report in Chinese and English; keys of columns never change with the language (REP-09).

use crate::state::{Cause, State};

/// Language of labels and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// 中文
    Zh,
    /// English
    En,
}

/// A word in both languages; the English one is the key that inventories use, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    zh: &'static str,
    en: &'static str,
}

impl Word {
    /// Empty cell.
    pub const NOT_APPLICABLE: Self = word("—", "—");
    /// AV-11.
    pub const INSUFFICIENT: Self = word("数据不足", "insufficient data");
    pub(super) const YES: Self = word("是", "yes");
    pub(super) const NO: Self = word("否", "no");
    /// What stands at a division itself, not in the divisions below.
    pub(super) const OWN: Self = word("本级", "own level");
    pub(super) const TOTAL: Self = word("合计", "Total");
    /// Access points without a division code.
    pub(super) const ELSEWHERE: Self = word("未注明区划", "no division given");

    pub(super) const fn text(self, language: Language) -> &'static str {
        match language {
            Language::Zh => self.zh,
            Language::En => self.en,
        }
    }
}

const fn word(zh: &'static str, en: &'static str) -> Word {
    Word { zh, en }
}

/// Words of closed sets of the inventory.
const INVENTORY: [Word; 19] = [
    word("自治区", "region"),
    word("地(市)", "prefecture"),
    word("县(区)", "county"),
    word("乡镇(街道)", "township"),
    word("行政村", "village"),
    word("光纤", "fibre"),
    word("移动", "mobile"),
    word("卫星", "satellite"),
    word("微波", "microwave"),
    word("其他", "other"),
    word("公用网络区", "public"),
    word("专用网络区", "private"),
    word("互联网接入区", "internet"),
    word("电子政务外网", "extranet"),
    word("县乡党政信息网", "party"),
    word("部门专网", "department"),
    word("实测", "surveyed"),
    word("估计", "estimated"),
    word("示意", "illustrative"),
];

/// The word of a key of the inventory; `None` for an empty or unknown one.
pub(super) fn inventory(key: &str) -> Option<Word> {
    INVENTORY.into_iter().find(|word| word.en == key)
}

pub(super) fn state(state: State) -> Word {
    match state {
        State::Up => word("正常", "up"),
        State::Down => word("中断", "down"),
        State::Unknown => word("未知", "unknown"),
        State::NotInService => word("未投用", "not in service"),
    }
}

pub(super) fn cause(cause: Cause) -> Word {
    match cause {
        Cause::None => Word::NOT_APPLICABLE,
        Cause::Link => word("上联线路", "link"),
        Cause::Device => word("设备或本地网络", "device or local network"),
        Cause::Unattributed => word("外部不可达", "unattributed"),
        Cause::Silence => word("失联", "silence"),
    }
}

/// What stands on every page that shows availability (requirements 4.4).
pub(super) const FORMULAS: [(&str, Word); 6] = [
    (
        "availability",
        word(
            "保通率 = 可达核心的分钟数 ÷ (可达 + 中断) 分钟数；统计在用时段，不含批准的检修",
            "availability = minutes in which the core could be reached / (those + minutes down), in service and outside approved maintenance",
        ),
    ),
    (
        "availability_low",
        word(
            "保通率下限 = 可达分钟数 ÷ 在用分钟数 (未知计为中断)",
            "low bound = minutes up / minutes in service (unknown counts as down)",
        ),
    ),
    (
        "availability_high",
        word(
            "保通率上限 = (可达 + 未知) 分钟数 ÷ 在用分钟数",
            "high bound = (minutes up + unknown) / minutes in service",
        ),
    ),
    (
        "monitoring_coverage",
        word(
            "监测覆盖率 = (可达 + 中断) 分钟数 ÷ 在用分钟数；低于 95 % 时不给单一数值，显示“数据不足”和上下限",
            "monitoring coverage = (minutes up + down) / minutes in service; below 95 % the bounds stand in place of the figure",
        ),
    ),
    (
        "online_rate",
        word(
            "在线率 = 期末正常的点位数 ÷ 期末在用的点位数",
            "online rate = access points up / access points in service, both at the end of the period",
        ),
    ),
    (
        "sums",
        word(
            "合计为分钟数之和相除，不是百分比的平均",
            "totals divide sums of minutes; percentages are never averaged",
        ),
    ),
];

/// Header of a column or title of a table: key, Chinese, English.
pub(super) struct Label {
    pub(super) key: &'static str,
    word: Word,
}

impl Label {
    pub(super) fn text(&self, language: Language) -> &'static str {
        self.word.text(language)
    }
}

const fn label(key: &'static str, zh: &'static str, en: &'static str) -> Label {
    Label {
        key,
        word: word(zh, en),
    }
}

/// The label of a key.
pub(super) fn of(key: &str) -> &'static Label {
    const MISSING: Label = label("", "", "");
    LABELS
        .iter()
        .find(|label| label.key == key)
        .unwrap_or(const { &MISSING })
}

pub(super) const LABELS: &[Label] = &[
    label("t1_overview", "总览", "Overview"),
    label("t2_levels", "分级覆盖", "Coverage by level"),
    label("t3_prefectures", "地市汇总", "By prefecture"),
    label("t4_counties", "县区汇总", "By county"),
    label("t5_access_points", "接入点明细", "Access points"),
    label("t13_stations", "农村综合信息服务站", "Rural stations"),
    label("t14_quality", "数据质量", "Data quality"),
    label("division_code", "行政区划代码", "Division code"),
    label("division_name", "名称", "Name"),
    label("level", "层级", "Level"),
    label("ap_total", "接入点位数", "Access points"),
    label("ap_in_service", "在用点位", "In service"),
    label("ap_monitored", "已监测点位", "Monitored"),
    label("monitoring_coverage", "监测覆盖率", "Monitoring coverage"),
    label("online_rate", "在线率", "Online rate"),
    label("availability", "保通率", "Availability"),
    label("availability_low", "保通率下限", "Availability, low bound"),
    label(
        "availability_high",
        "保通率上限",
        "Availability, high bound",
    ),
    label("util_active_rate", "点位利用率", "Active-AP rate"),
    label(
        "ipv6_l3_share",
        "IPv6 达标率(≥L3)",
        "IPv6 share (L3 and above)",
    ),
    label("open_critical", "未处置紧急告警", "Open critical alerts"),
    label("rank", "排名", "Rank"),
    label("units_total", "应覆盖单位数", "Units to cover"),
    label("units_covered", "已覆盖单位数", "Units covered"),
    label("unit_coverage", "单位覆盖率", "Unit coverage"),
    label("dual_uplink_share", "双链路占比", "Dual-uplink share"),
    label("medium_fibre", "光纤接入数", "Fibre"),
    label("medium_mobile", "移动接入数", "Mobile"),
    label("medium_satellite", "卫星接入数", "Satellite"),
    label("medium_other", "其他接入数", "Other media"),
    label("bandwidth_ok_share", "带宽达标率", "Bandwidth-target share"),
    label("townships_total", "应覆盖乡镇(街道)", "Townships"),
    label("townships_covered", "已覆盖乡镇(街道)", "Townships covered"),
    label("villages_total", "应覆盖行政村", "Villages"),
    label("villages_covered", "已覆盖行政村", "Villages covered"),
    label("stations_total", "农村综合信息服务站数", "Rural stations"),
    label("station_coverage", "服务站覆盖率", "Station coverage"),
    label("border_counties", "边境县数", "Border counties"),
    label("mttr_min", "平均修复时长(分)", "MTTR (min)"),
    label("outages", "中断次数", "Outages"),
    label("longest_outage_min", "最长中断(分)", "Longest outage (min)"),
    label("ap_id", "点位编号", "Access point id"),
    label("ap_name", "点位名称", "Access point"),
    label("prefecture", "地市", "Prefecture"),
    label("county", "县", "County"),
    label("township", "乡镇", "Township"),
    label("village", "村", "Village"),
    label(
        "division_code12",
        "十二位区划代码",
        "Division code, 12 digits",
    ),
    label("department", "接入单位", "Department"),
    label("zone", "网络区域", "Zone"),
    label("network_kind", "网络类型", "Network"),
    label("parent_id", "上联节点", "Parent"),
    label("uplinks", "上联链路数", "Uplinks"),
    label("medium", "接入方式", "Medium"),
    label("isp", "承建运营商", "Carrier"),
    label("contract_mbps", "签约带宽(Mbit/s)", "Contracted Mbit/s"),
    label("p95_in_mbps", "95峰值·入(Mbit/s)", "p95 in Mbit/s"),
    label("p95_out_mbps", "95峰值·出(Mbit/s)", "p95 out Mbit/s"),
    label("util_pct", "带宽利用率(%)", "Bandwidth utilisation (%)"),
    label("active", "活跃", "Active"),
    label("state", "期末状态", "State at the end"),
    label("coverage", "监测覆盖率", "Monitoring coverage"),
    label("up_min", "正常(分)", "Up (min)"),
    label("down_min", "中断(分)", "Down (min)"),
    label("unknown_min", "未知(分)", "Unknown (min)"),
    label("main_cause", "主要原因", "Main cause"),
    label("ipv4_prefix", "IPv4 地址段", "IPv4 prefix"),
    label("ipv6_prefix", "IPv6 地址段", "IPv6 prefix"),
    label("ipv6_level", "IPv6 等级", "IPv6 level"),
    label("ipv6_score", "IPv6 得分", "IPv6 score"),
    label("ipv6_since", "IPv6 等级起始", "IPv6 level since"),
    label("ce_model", "设备型号", "CE model"),
    label("ce_install_date", "安装日期", "Installed"),
    label("warranty_end", "保修期至", "Warranty until"),
    label("age_years", "使用年限", "Age (years)"),
    label("agent_version", "探针版本", "Agent version"),
    label("agent_tier", "权限档", "Agent tier"),
    label("last_seen", "最近上报", "Last seen"),
    label("contact_role", "责任单位", "Responsible"),
    label("lon", "经度", "Longitude"),
    label("lat", "纬度", "Latitude"),
    label("coord_quality", "坐标精度", "Coordinates"),
    label("border_county", "边境县", "Border county"),
    label("remarks", "备注", "Remarks"),
    label("key", "键", "Key"),
    label("item", "项目", "Item"),
    label("number", "数值", "Value"),
    label("ap_insufficient", "数据不足点位", "Insufficient data"),
    label("ap_never_seen", "从未上报点位", "Never seen"),
    label(
        "ap_without_coordinates",
        "无坐标点位",
        "Without coordinates",
    ),
    label(
        "ap_without_division",
        "无区划代码点位",
        "Without division code",
    ),
    label(
        "agents_other_version",
        "非最新版本探针",
        "Agents not at the newest version",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::inventory::{COORD_QUALITIES, MEDIA, NETWORK_KINDS, ZONES};

    #[test]
    fn every_label_stands_once_and_in_both_languages() {
        let mut seen = HashSet::new();
        for label in LABELS {
            assert!(seen.insert(label.key), "{}", label.key);
            assert!(!label.text(Language::Zh).is_empty() && !label.text(Language::En).is_empty());
        }
    }

    #[test]
    fn every_word_of_the_inventory_is_known() {
        let sets: [&[&str]; 5] = [
            &crate::inventory::LEVELS,
            &MEDIA,
            &ZONES,
            &NETWORK_KINDS,
            &COORD_QUALITIES,
        ];
        for key in sets.concat() {
            assert!(inventory(key).is_some(), "{key}");
        }
    }
}
